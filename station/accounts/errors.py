"""What can go wrong with identities and environments."""

from station.core.errors import Conflict, NotFound, Unauthenticated


class BadApiKey(Unauthenticated):
    """The API key is not valid: unknown, revoked, expired, or its owner is disabled."""

    code = "bad_api_key"


class MalformedApiKey(Unauthenticated):
    """That is not a whole Station API key (stn_…): characters are missing or mistyped."""

    code = "malformed_api_key"


class EnvironmentNotFound(NotFound):
    """There is no such environment, or you are not a member of it."""

    code = "environment_not_found"


class NameTaken(Conflict):
    """The name is taken."""

    code = "name_taken"
