"""What keeps the SSH gateway from starting."""

from station.core.errors import StationError


class HostKeyUnusable(StationError):
    """The gateway's host key cannot be used."""

    code = "host_key_unusable"


class CannotListen(StationError):
    """The gateway cannot listen on its address."""

    code = "cannot_listen"
