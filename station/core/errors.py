"""The errors Station tells people about.

A :class:`StationError` is an *expected* failure: something the caller can understand and act on.
Every door (REST, CLI, SSH, MCP, admin) translates it once, by its :attr:`StationError.kind`.
Anything else that is raised is a bug and reaches people only as a reference to the log.
"""

from enum import StrEnum
from typing import Any, ClassVar, Self


class Kind(StrEnum):
    """What sort of failure it is; doors map this to HTTP status, exit code or tool error."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


class StationError(Exception):
    """Station could not do this."""

    code: ClassVar[str] = "failed"
    """Stable, machine-readable name of the failure; part of the API."""
    kind: ClassVar[Kind] = Kind.FAILED

    def __init__(self, message: str | None = None, *, fix: str = "") -> None:
        """Describe the failure.

        Args:
            message: what was wrong and where; the class docstring's first line when omitted.
            fix: what the reader can do about it, one sentence, or "".
        """
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.fix = fix
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.fix}".strip()

    def details(self) -> dict[str, Any]:
        """Extra JSON members for machine readers (problem+json, ``--json`` errors)."""
        return {}


class InvalidInput(StationError):
    """The input is not valid."""

    code = "invalid_input"
    kind = Kind.INVALID

    def __init__(self, field: str, problem: str, *, fix: str = "") -> None:
        """Name one bad field. ``field`` is a dotted path in the caller's own terms."""
        super().__init__(f"{field}: {problem}", fix=fix)
        self.field = field
        self.problem = problem

    def at(self, field: str) -> Self:
        """The same problem, at the name by which a door's callers know the field."""
        return type(self)(field, self.problem, fix=self.fix)

    def details(self) -> dict[str, Any]:
        return {"errors": [{"field": self.field, "problem": self.problem, "fix": self.fix}]}


class InputTooLarge(InvalidInput):
    """The input is too large."""

    code = "input_too_large"
    kind = Kind.TOO_LARGE


class Unauthenticated(StationError):
    """You are not logged in."""

    code = "unauthenticated"
    kind = Kind.UNAUTHENTICATED


class Forbidden(StationError):
    """You may not do this."""

    code = "forbidden"
    kind = Kind.FORBIDDEN


class NotFound(StationError):
    """There is no such thing, or it is not visible to you."""

    code = "not_found"
    kind = Kind.NOT_FOUND


class Conflict(StationError):
    """This conflicts with the present state."""

    code = "conflict"
    kind = Kind.CONFLICT


class Unavailable(StationError):
    """Station cannot take this now."""

    code = "unavailable"
    kind = Kind.UNAVAILABLE

    def __init__(
        self, message: str | None = None, *, fix: str = "", retry_after: float | None = None
    ) -> None:
        """``retry_after``: seconds after which trying again makes sense, if known."""
        super().__init__(message, fix=fix)
        self.retry_after = retry_after

    def details(self) -> dict[str, Any]:
        return {} if self.retry_after is None else {"retry_after": self.retry_after}
