"""The gateway over standard input and output, for an MCP client that starts it.

Who asks is fixed when it starts: the owner of an API key, looked up anew for each request so that
a revoked key ends at once; or, without a key, the operator at this host's shell.
"""

import asyncio
import os
import pwd
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from django.db import connections
from mcp.server.stdio import stdio_server

from mcpgw.errors import KeyFileUnreadable
from mcpgw.gateway import opened
from station.accounts import principals
from station.config import current
from station.core.principal import Principal, system

KEY_VARIABLE = "STATION_API_KEY"
_LONGEST_KEY = 4096


def identity(key_file: Path | None, environ: Mapping[str, str]) -> Callable[[], Principal]:
    """Who asks: the key in ``key_file``, else in ``STATION_API_KEY``, else the host's operator.

    Raises:
        KeyFileUnreadable: there is no key to read.
    """
    if key_file is not None:
        try:
            key = key_file.read_text(encoding="ascii")[:_LONGEST_KEY].strip()
        except OSError as error:
            raise KeyFileUnreadable(
                "--key-file", f"{key_file} cannot be read: {error.strerror}"
            ) from None
        except ValueError:
            raise KeyFileUnreadable("--key-file", f"{key_file} holds no API key") from None
        return lambda: principals.for_api_key(key)
    if present := environ.get(KEY_VARIABLE):
        return lambda: principals.for_api_key(present)
    operator = system(f"mcp:{pwd.getpwuid(os.getuid()).pw_name}")
    return lambda: operator


def serve(key_file: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> None:
    """Serve the client at the other end of standard input until it closes it.

    Django must be set up. Nothing else may be written to standard output.

    Raises:
        KeyFileUnreadable: see :func:`identity`.
        Unauthenticated: the key is not valid, from the start.
    """
    identify = identity(key_file, environ)
    try:
        identify()
    finally:
        connections.close_all()
    if threading.current_thread() is threading.main_thread():
        # A thread sits in a read that nothing interrupts; there is nothing to save either.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    asyncio.run(_serve(identify))


async def _serve(identify: Callable[[], Principal]) -> None:
    async with opened(current(), lambda _request: identify()) as (gateway, _):
        server = gateway.server()
        async with stdio_server() as (reader, writer):
            await server.run(reader, writer, server.create_initialization_options())
