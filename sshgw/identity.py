"""Who a public key is: looked up without a trace while it is only offered, named once proven."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from django.db import connections
from django.utils import timezone

from sshgw.authorized_keys import Entry, read
from station.accounts import principals
from station.accounts.models import SshKey, User
from station.core.principal import Principal

SHARED_USERNAME = "station"
"""As in ``ssh station@host``: the key alone says who it is."""

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A key that a client says it has, and who it says it is. ``address`` is an IP address."""

    username: str
    fingerprint: str
    address: str


def _released(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Leave this thread without a database connection: transport threads live for hours."""

    @wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        finally:
            connections.close_all()

    return call


class Identities:
    """The keys that open the gateway: rows of ``ssh_keys``, and the configured file's lines.

    A key that is registered follows its row alone: revoked there, it is revoked.
    """

    def __init__(self, authorized_keys: Path | None) -> None:
        self._file = authorized_keys

    @_released
    def accepts(self, offer: Offer) -> bool:
        """Whether the key would do, if it is proven; changes nothing."""
        row = SshKey.objects.select_related("user").filter(fingerprint=offer.fingerprint).first()
        if row is None:
            return self._from_file(offer) is not None
        return (
            row.revoked_at is None
            and (row.expires_at is None or row.expires_at > timezone.now())
            and row.user.is_active
            and offer.username in (row.user.username, SHARED_USERNAME)
        )

    @_released
    def principal(self, proven: Offer) -> Principal | None:
        """The principal of a key whose signature was verified, ``None`` when it opens no more."""
        if SshKey.objects.filter(fingerprint=proven.fingerprint).exists():
            return principals.for_ssh_key(proven.username, proven.fingerprint)
        user = self._from_file(proven)
        if user is None:
            return None
        return replace(
            principals.for_user(user),
            kind="ssh_key",
            id=proven.fingerprint,
            label=f"{user.username}/authorized_keys",
        )

    def _from_file(self, offer: Offer) -> User | None:
        if self._file is None:
            return None
        now = timezone.now()

        def fits(entry: Entry) -> bool:
            return (
                entry.fingerprint == offer.fingerprint
                and offer.username in (entry.username, SHARED_USERNAME)
                and entry.admits(offer.address, now)
            )

        named = [entry.username for entry in read(self._file) if fits(entry)]
        return User.objects.filter(username__in=named[:1], is_active=True).first()
