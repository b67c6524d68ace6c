"""The gateway over streamable HTTP: POST /mcp with an API key as bearer, and GET /health.

It is stateless: every request is authenticated by itself and any replica answers it. There is no
session that could be taken over, kept alive after its key was revoked, or lost with a process.
Progress comes on the response to the call it belongs to.
"""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import structlog
import uvicorn
from django.db import InterfaceError, OperationalError
from django.http.request import split_domain_port, validate_host
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings

from mcpgw.errors import CannotListen
from mcpgw.gateway import opened
from runs.database import Units
from station.accounts import principals
from station.config import Config
from station.core.errors import Unauthenticated
from station.core.principal import Principal
from station.observe.metrics import ERRORS, HTTP_REQUESTS

PATH = "/mcp"
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PRINCIPAL = "station.principal"
_THREADS = 4
_MOST_REQUESTS = 1000
_DRAIN = 10
_BACKLOG = 1024
_log = structlog.get_logger(__name__)


class Guard:
    """What stands before the protocol: the path, Host and Origin, the API key."""

    def __init__(self, app: App, config: Config, units: Units) -> None:
        self._app = app
        self._hosts = list(config.api.allowed_hosts)
        self._origins = frozenset(config.api.cors_origins)
        self._units = units

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        if scope["path"] == "/health":
            await _answer(send, 200, {"status": "ok"})
            return
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            _count(refusal[0])
            await _answer(send, *refusal)
            return
        try:
            scope[_PRINCIPAL] = await self._units.run(partial(_bearer, headers))
        except Unauthenticated:
            _count(401)
            await _answer(
                send, 401, _problem("unauthenticated", "This needs a valid Station API key.",
                                    "Send Authorization: Bearer stn_…"),
                {"www-authenticate": 'Bearer realm="station"'},
            )  # fmt: skip
            return
        except (OperationalError, InterfaceError):
            _count(503)
            body = _problem("unavailable", "Station's database cannot be reached.", "")
            await _answer(send, 503, body, {"retry-after": "5"})
            return

        async def counting(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                _count(message["status"])
            await send(message)

        await self._app(scope, receive, counting)

    def _refusal(
        self, scope: Scope, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], Mapping[str, str]] | None:
        if scope["path"] not in (PATH, f"{PATH}/"):
            return 404, _problem("not_found", f"MCP is at {PATH}.", ""), {}
        host = headers.get("host", "")
        domain, _ = split_domain_port(host)
        if not domain or not validate_host(domain, self._hosts):
            problem = _problem("misdirected", "This Host is not answered to here.",
                               "Add it to api.allowed_hosts.")  # fmt: skip
            return 421, problem, {}
        origin = headers.get("origin")
        if origin is not None and not self._same_or_allowed(origin, host):
            problem = _problem("forbidden_origin", "Pages of this origin may not call the gateway.",
                               "Add it to api.cors_origins.")  # fmt: skip
            return 403, problem, {}
        if scope["method"] != "POST":
            problem = _problem("method_not_allowed", "Only POST: there are no sessions.", "")
            return 405, problem, {"allow": "POST"}
        return None

    def _same_or_allowed(self, origin: str, host: str) -> bool:
        try:
            own = urlsplit(origin).netloc.lower() == host.lower()
        except ValueError:  # no address at all
            return False
        return own or origin in self._origins


def _bearer(headers: Mapping[str, str]) -> Principal:
    scheme, _, credential = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    return principals.for_api_key(credential)


def _count(status: int) -> None:
    HTTP_REQUESTS.labels("POST", PATH, str(status)).inc()


def _problem(code: str, detail: str, fix: str) -> dict[str, str]:
    return {"code": code, "detail": detail, **({"fix": fix} if fix else {})}


async def _answer(
    send: Send, status: int, body: Mapping[str, str], headers: Mapping[str, str] | None = None
) -> None:
    content = json.dumps(body).encode()
    kind = "application/json" if status == 200 else "application/problem+json"
    pairs = {"content-type": kind, "content-length": str(len(content)), **(headers or {})}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(k.encode(), v.encode()) for k, v in pairs.items()],
        }
    )
    await send({"type": "http.response.body", "body": content})


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's business; it sets ``stop``."""
        yield


def serve(
    config: Config, stop: threading.Event, *, listening: Callable[[int], None] | None = None
) -> None:
    """Run the gateway until ``stop`` is set, then let answers finish within 10 s.

    Django must be set up. Waits for runs end at once when it stops, with the run as it stands.

    Args:
        listening: called with the port once connections are accepted.

    Raises:
        CannotListen: the address is taken or not this machine's.
    """
    listener = listen(config.mcp.host, config.mcp.port)
    try:
        asyncio.run(serve_on(listener, config, stop, listening))
    finally:
        listener.close()


async def serve_on(
    listener: socket.socket,
    config: Config,
    stop: threading.Event,
    listening: Callable[[int], None] | None = None,
) -> None:
    """:func:`serve` on a socket that listens already."""
    units = Units(threads=_THREADS)
    async with opened(config, lambda request: request.scope[_PRINCIPAL]) as (gateway, waiting):
        manager = StreamableHTTPSessionManager(
            app=gateway.server(),
            stateless=True,
            # Host and Origin were looked at by the guard, by Station's own settings.
            security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
            max_request_body_size=config.api.max_body,
        )
        server = _Server(
            uvicorn.Config(
                _logged(Guard(manager.handle_request, config, units)),
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=_MOST_REQUESTS,
                timeout_graceful_shutdown=_DRAIN,
            )
        )

        def end() -> None:
            waiting.stop()
            server.should_exit = True

        _on_stop(stop, end)
        port = int(listener.getsockname()[1])
        _log.info("mcp_listening", host=config.mcp.host, port=port)
        if listening is not None:
            listening(port)
        try:
            async with manager.run():
                await server.serve(sockets=[listener])
        finally:
            units.close()
    _log.info("mcp_stopped")


def _logged(app: App) -> App:
    """``app``, whose bugs are counted and logged here: uvicorn's own logger is not heard."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Exception:
            ERRORS.labels("mcp").inc()
            _log.exception("mcp_request_errored")
            raise

    return call


def _on_stop(stop: threading.Event, end: Callable[[], None]) -> None:
    """Call ``end`` in the running loop once ``stop`` is set."""
    loop = asyncio.get_running_loop()

    def watch() -> None:
        stop.wait()
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            loop.call_soon_threadsafe(end)

    threading.Thread(target=watch, name="station-mcp-stop", daemon=True).start()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises :class:`CannotListen`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, because asyncio sets TCP_NODELAY only then; without it each answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListen(
            f"The MCP gateway cannot listen on {host} port {port}: {error.strerror}.",
            fix="Stop what uses the port, or set mcp.port (STN_MCP_PORT).",
        ) from None
    return listener
