"""What can go wrong between Station and a tool server.

Two questions decide what a caller does next, and every error answers both: is it ``permanent``
(trying again changes nothing until a person changes something), and is the ``outcome_unknown``
(the call may have had its effect although no answer came)?
"""

from station.core.errors import Kind, StationError


class ToolServerError(StationError):
    """The tool server failed."""

    code = "tool_server_error"
    permanent: bool = False
    """Trying again cannot help before somebody changes something."""
    outcome_unknown: bool = False
    """The request may have taken effect on the server."""

    def __init__(
        self,
        message: str | None = None,
        *,
        fix: str = "",
        permanent: bool | None = None,
        outcome_unknown: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        """``permanent`` and ``outcome_unknown`` override what the class says.

        ``retry_after``: the seconds after which the server wants to be asked again, if it said so.
        """
        super().__init__(message, fix=fix)
        self.retry_after = retry_after
        if permanent is not None:
            self.permanent = permanent
        if outcome_unknown is not None:
            self.outcome_unknown = outcome_unknown


class ToolServerUnavailable(ToolServerError):
    """The tool server could not be reached; nothing was sent to a tool."""

    code = "tool_server_unavailable"
    kind = Kind.UNAVAILABLE


class ToolServerBusy(ToolServerUnavailable):
    """No session to the tool server became free in time; nothing was sent."""

    code = "tool_server_busy"


class StdioCommandNotAllowed(ToolServerUnavailable):
    """The command of this stdio tool server is not on the operator's list."""

    code = "stdio_command_not_allowed"
    kind = Kind.FORBIDDEN
    permanent = True


class SessionGone(ToolServerUnavailable):
    """The session could not carry the request: nothing was sent, so it may be sent again."""

    code = "tool_session_gone"


class ToolCallTimeout(ToolServerError):
    """The tool did not answer in time; it may have had its effect."""

    code = "tool_call_timeout"
    outcome_unknown = True


class ToolCallLost(ToolServerError):
    """The connection to the tool server was lost during the call; it may have had its effect."""

    code = "tool_call_lost"
    outcome_unknown = True


class TurnedAway(ToolServerError):
    """The tool server turned the request away for now; it did nothing."""

    code = "tool_call_turned_away"


class ToolRefused(ToolServerError):
    """The tool server answered the call with an error."""

    code = "tool_refused"
    permanent = True


class ToolServerMisbehaved(ToolServerError):
    """The tool server broke the protocol."""

    code = "tool_server_misbehaved"
    permanent = True
