"""Agreeing on a protocol version, at the least cost that every server understands.

The protocol has two eras: since 2026-07-28 requests stand alone after one ``server/discover``;
before, a session begins with ``initialize``. Over HTTP the new era is asked for first: it saves
the session and two requests, and an old server refuses the question at once. Over stdio (and
legacy SSE) ``initialize`` comes first: nearly every server understands it, while some old ones
do not answer an unknown first request at all, or exit.
"""

from mcp.client._probe import negotiate_auto
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types import METHOD_NOT_FOUND, UNSUPPORTED_PROTOCOL_VERSION


async def negotiate(session: ClientSession, *, stateless_first: bool) -> None:
    """Bring ``session`` to the state where it can be used.

    Raises:
        MCPError: the server refused, or the connection failed.
        pydantic.ValidationError, RuntimeError: its answer breaks the protocol.
    """
    if stateless_first:
        await negotiate_auto(session)
        return
    try:
        await session.initialize()
    except MCPError as error:
        if error.code not in (UNSUPPORTED_PROTOCOL_VERSION, METHOD_NOT_FOUND):
            raise
        # A server of the new era only.
        await session.discover()
