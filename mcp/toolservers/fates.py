"""What became of a request over HTTP: told by the transport to whoever asked, through the SDK.

The SDK carries nothing but JSON-RPC errors from one to the other, so a fate travels as one. It
bears a seal that only this process knows: no server can say that nothing was sent to it.

Which fate a request has decides whether it is sent again. The table of causes is in
docs/guarantees.md, under "How a call over HTTP can fail".
"""

import secrets
from dataclasses import dataclass
from enum import StrEnum

from mcp.shared.exceptions import MCPError

JsonError = dict[str, object]
CODE = -39000
_SEAL = secrets.token_hex(16)


class Fate(StrEnum):
    """What became of a request that has no answer."""

    NOT_SENT = "not_sent"
    """No connection came about: not a byte of it was sent."""
    SESSION_GONE = "session_gone"
    """The server does not know the session (any more), and did nothing."""
    TURNED_AWAY = "turned_away"
    """The server does not want it now, and did nothing."""
    REFUSED = "refused"
    """The server, or what is before it, does not want it at all, and did nothing."""
    LOST = "lost"
    """It may have taken effect: a connection was there, and no answer came."""
    WRONG = "wrong"
    """It may have taken effect: what came is no answer, or is larger than Station accepts."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """A fate, and the seconds after which the server wants to be asked again, if it said so."""

    fate: Fate | None = None
    retry_after: float | None = None


def sealed(fate: Fate, message: str, *, retry_after: float | None = None) -> JsonError:
    """The JSON-RPC error that tells the fate; it belongs to the request it answers."""
    data = {"seal": _SEAL, "fate": fate.value, "retry_after": retry_after}
    return {"jsonrpc": "2.0", "id": None, "error": {"code": CODE, "message": message, "data": data}}


def told(error: MCPError) -> Told:
    """What the transport told with this error; nothing if it is the server's or the SDK's own."""
    data = error.data
    if error.code != CODE or not isinstance(data, dict) or data.get("seal") != _SEAL:
        return Told()
    return Told(fate=Fate(data["fate"]), retry_after=data["retry_after"])
