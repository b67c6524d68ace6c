"""What keeps the MCP gateway from starting."""

from station.core.errors import InvalidInput, StationError


class CannotListen(StationError):
    """The gateway cannot listen on its address."""

    code = "cannot_listen"


class KeyFileUnreadable(InvalidInput):
    """The file with the API key cannot be read."""

    code = "key_file_unreadable"
