"""What a command's exit code says."""

from collections.abc import Mapping
from enum import IntEnum

from station.core.errors import Kind


class Exit(IntEnum):
    """The exit codes of every ``station`` command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    CONFLICT = 5
    INTERRUPTED = 130
    """Ctrl-C, or the caller went away; as shells report SIGINT."""
    PIPE_CLOSED = 141
    """Nobody reads the output any more; as shells report SIGPIPE."""


OF_KIND: Mapping[Kind, Exit] = {
    Kind.INVALID: Exit.USAGE,
    Kind.TOO_LARGE: Exit.USAGE,
    Kind.UNAUTHENTICATED: Exit.NOT_ALLOWED,
    Kind.FORBIDDEN: Exit.NOT_ALLOWED,
    Kind.NOT_FOUND: Exit.NOT_FOUND,
    Kind.CONFLICT: Exit.CONFLICT,
    Kind.RATE_LIMITED: Exit.FAILED,
    Kind.UNAVAILABLE: Exit.FAILED,
    Kind.FAILED: Exit.FAILED,
}
