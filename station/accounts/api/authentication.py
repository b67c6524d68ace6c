"""Who is asking over HTTP: a bearer API key, or a person logged in to the web admin."""

from dataclasses import dataclass

from rest_framework.authentication import BaseAuthentication
from rest_framework.authentication import SessionAuthentication as DjangoSession
from rest_framework.request import Request

from station.accounts import principals
from station.accounts.models import User
from station.core.principal import Principal


@dataclass(frozen=True, kw_only=True)
class KeyHolder:
    """What ``request.user`` is for a request that brought an API key; it is no database row."""

    pk: int | None
    username: str
    is_authenticated: bool = True
    is_active: bool = True


class ApiKeyAuthentication(BaseAuthentication):
    """``Authorization: Bearer stn_…``; ``request.auth`` is the :class:`Principal`."""

    def authenticate(self, request: Request) -> tuple[KeyHolder, Principal] | None:
        """The key's holder and principal, or ``None`` without a bearer credential.

        Raises:
            Unauthenticated: the key is malformed, unknown, revoked or expired.
        """
        scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        principal = principals.for_api_key(credential)
        return KeyHolder(pk=principal.user_id, username=principal.label), principal

    def authenticate_header(self, request: Request) -> str:
        """What a 401 asks for."""
        return 'Bearer realm="station"'


class SessionAuthentication(DjangoSession):
    """The web admin's session, with CSRF protection; ``request.auth`` is the principal."""

    def authenticate(self, request: Request) -> tuple[User, Principal] | None:
        """The person and their principal, or ``None`` when nobody is logged in.

        Raises:
            PermissionDenied: the request would change something and has no CSRF token.
        """
        found = super().authenticate(request)
        if found is None:
            return None
        user = found[0]
        assert isinstance(user, User)
        return user, principals.for_user(user)
