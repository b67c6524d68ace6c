"""From a credential to a :class:`Principal`: the one place where identities are made."""

from datetime import timedelta
from hmac import compare_digest

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef, Q
from django.db.models.functions import JSONObject, Now
from django.utils import timezone

from station.accounts import keys
from station.accounts.errors import BadApiKey, MalformedApiKey
from station.accounts.models import ApiKey, Environment, Membership, SshKey, User
from station.config import current
from station.core.errors import Unauthenticated
from station.core.principal import Principal, Role
from station.vault.envelope import key_id

_PEPPER_LABEL = "api key digest"
_TOUCH_EVERY = timedelta(minutes=1)


def for_user(user: User) -> Principal:
    """The principal of a logged-in person."""
    return Principal(
        kind="user",
        id=str(user.pk),
        label=user.username,
        user_id=user.pk,
        platform_admin=user.is_superuser,
        roles=_roles(user),
    )


def for_api_key(presented: str) -> Principal:
    """The principal of a bearer credential: its user's rights, narrowed to the key's.

    Raises:
        MalformedApiKey: it cannot be a key at all.
        BadApiKey: unknown, revoked or expired, or its owner is disabled; it never says which.
    """
    raw = keys.parse(presented.strip())
    if raw is None:
        raise MalformedApiKey(fix="Copy the whole key; `station key create` makes a new one.")
    row = (
        ApiKey.objects.select_related("user")
        .annotate(
            only=ArraySubquery(
                ApiKey.environments.through.objects.filter(apikey=OuterRef("pk")).values(
                    "environment_id"
                )
            ),
            member_of=ArraySubquery(
                Membership.objects.filter(user=OuterRef("user_id")).values_list(
                    JSONObject(environment="environment_id", role="role")
                )
            ),
        )
        .filter(key_id=raw.key_id)
        .first()
    )
    if row is None or not compare_digest(bytes(row.digest), _digest(raw, bytes(row.pepper_id))):
        raise BadApiKey
    now = timezone.now()
    if row.revoked_at or (row.expires_at and row.expires_at <= now) or not row.user.is_active:
        raise BadApiKey
    if row.last_used_at is None or now - row.last_used_at > _TOUCH_EVERY:
        ApiKey.objects.filter(pk=row.pk).update(last_used_at=Now())
    allowed = set(row.only)
    most = Role(row.role)
    unrestricted = row.user.is_superuser and not allowed and most is Role.ADMIN
    roles = {each["environment"]: Role(each["role"]) for each in row.member_of}
    if row.user.is_superuser and not unrestricted:
        roles = dict.fromkeys(allowed or _every_environment(), Role.ADMIN)
    return Principal(
        kind="api_key",
        id=row.key_id,
        label=f"{row.user.username}/{row.name}",
        user_id=row.user_id,
        platform_admin=unrestricted,
        roles={e: min(r, most) for e, r in roles.items() if not allowed or e in allowed},
    )


def for_ssh_key(username: str, fingerprint: str) -> Principal | None:
    """The principal of ``username`` when this key opens the gateway for them, else ``None``.

    ``username`` may be any name when the key alone identifies the user (``station``, as in
    ``ssh station@host``). Call it only with a key whose signature was verified.
    """
    row = (
        SshKey.objects.select_related("user")
        .filter(Q(expires_at=None) | Q(expires_at__gt=Now()))
        .filter(fingerprint=fingerprint, revoked_at=None, user__is_active=True)
        .first()
    )
    if row is None or username not in (row.user.username, "station"):
        return None
    SshKey.objects.filter(pk=row.pk).update(last_used_at=Now())
    return Principal(
        kind="ssh_key",
        id=row.fingerprint,
        label=f"{row.user.username}/{row.name}",
        user_id=row.user_id,
        platform_admin=row.user.is_superuser,
        roles=_roles(row.user),
    )


def pepper() -> tuple[bytes, bytes]:
    """``(pepper, its id)`` for new key digests."""
    security = current().security
    return security.derive(_PEPPER_LABEL), key_id(security.key_bytes)


def _digest(raw: keys.RawKey, pepper_id: bytes) -> bytes:
    """The digest under the pepper a stored row was made with; former ring keys stay valid."""
    security = current().security
    for candidate in (security.key_bytes, *security.previous_key_bytes):
        if key_id(candidate) == pepper_id:
            return raw.digest(security.derive(_PEPPER_LABEL, key=candidate))
    raise Unauthenticated(
        "This API key was made under an encryption key that Station no longer has.",
        fix="Create a new API key.",
    )


def _roles(user: User) -> dict[int, Role]:
    return {m.environment_id: Role(m.role) for m in user.memberships.all()}


def _every_environment() -> list[int]:
    return list(Environment.objects.values_list("pk", flat=True))
