"""What the SDK reports of a failed request, as Station's errors."""

import mcp_types as types
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from toolservers.errors import (
    SessionGone,
    ToolCallLost,
    ToolRefused,
    ToolServerError,
    ToolServerMisbehaved,
    ToolServerUnavailable,
    TurnedAway,
)
from toolservers.fates import Fate, told
from toolservers.redaction import Redactor
from toolservers.results import storable

LONGEST_MESSAGE = 1_000
# The SDK sends these itself, under a code that servers use for anything.
_LOST_MESSAGES = ("Connection closed", "SSE stream ended", "SSE stream failed")


def is_lost(error: MCPError) -> bool:
    """The connection ended before the answer came."""
    return error.code == types.CONNECTION_CLOSED and error.message.startswith(_LOST_MESSAGES)


class Failures:
    """Translates for one server. ``effects``: the request may have had some."""

    def __init__(self, name: str, redactor: Redactor) -> None:
        self.who = f"Tool server {name}"
        self._redactor = redactor

    def of_handshake(
        self, error: BaseException, seconds: float, cause: ToolServerError | None
    ) -> ToolServerError:
        """Why a connection did not come about; ``cause`` is what its transport knows."""
        if isinstance(error, ToolServerError):
            return error
        if isinstance(error, TimeoutError):
            return ToolServerUnavailable(
                f"{self.who} did not complete the handshake within {seconds:.3g} s."
            )
        if isinstance(error, ValidationError | RuntimeError):
            return ToolServerMisbehaved(
                f"{self.who} answered the handshake against the protocol: {self._summary(error)}"
            )
        if not isinstance(error, MCPError):
            return ToolServerUnavailable(
                f"{self.who} cannot be connected to: {self._summary(error)}"
            )
        if is_lost(error):
            return cause or ToolServerUnavailable(f"{self.who} closed the connection.")
        known = told(error)
        return ToolServerUnavailable(
            f"{self.who} cannot be connected to: {self._said(error)}",
            permanent=known.fate is Fate.REFUSED,
            retry_after=known.retry_after,
        )

    def of_call(self, error: MCPError, effects: bool) -> ToolServerError:
        """What became of a request that was answered by an error, the server's or our own."""
        said, known = self._said(error), told(error)
        match known.fate:
            case Fate.NOT_SENT | Fate.SESSION_GONE:
                return SessionGone(f"{self.who} did not get the request: {said}")
            case Fate.TURNED_AWAY:
                return TurnedAway(f"{self.who} did nothing: {said}", retry_after=known.retry_after)
            case Fate.LOST:
                return ToolCallLost(
                    f"{self.who}: {said}", outcome_unknown=effects, retry_after=known.retry_after
                )
            case Fate.WRONG:
                return ToolServerMisbehaved(f"{self.who}: {said}", outcome_unknown=effects)
        if error.code == types.PARSE_ERROR and error.message.startswith("Failed to parse"):
            return ToolServerMisbehaved(
                f"{self.who} answered with something else than JSON-RPC.", outcome_unknown=effects
            )
        return ToolRefused(f"{self.who} refused: {said}")

    def of_answer(self, error: ValidationError, effects: bool) -> ToolServerMisbehaved:
        """The answer came, but it is none."""
        return ToolServerMisbehaved(
            f"{self.who} answered against the protocol: {self._summary(error)}",
            outcome_unknown=effects,
        )

    def lost(self, cause: ToolServerError | None, effects: bool) -> ToolServerError:
        """The connection ended under the request; ``cause`` is what its transport knows."""
        if isinstance(cause, ToolServerMisbehaved):
            return ToolServerMisbehaved(cause.message, outcome_unknown=effects)
        said = f" {cause.message}" if cause else ""
        return ToolCallLost(
            f"The connection to {self.who} was lost during the request.{said}",
            outcome_unknown=effects,
        )

    def _said(self, error: MCPError) -> str:
        text = self._fit_to_store(error.message)
        return text if told(error).fate else f"{text} (code {error.code})"

    def _summary(self, error: BaseException) -> str:
        if isinstance(error, ValidationError):
            # Its own text would quote the server's answer.
            places = {".".join(map(str, item["loc"])) or "(root)" for item in error.errors()}
            return self._fit_to_store(f"invalid {', '.join(sorted(places))[:200]}")
        return self._fit_to_store(f"{type(error).__name__}: {error}")

    def _fit_to_store(self, text: str) -> str:
        return storable(self._redactor.text(text))[:LONGEST_MESSAGE]
