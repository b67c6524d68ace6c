"""Use cases of identities, environments and their variables."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction
from django.db.models.functions import Now
from django.utils import timezone

from station.accounts import keys, pausing, principals
from station.accounts.errors import EnvironmentNotFound, NameTaken
from station.accounts.models import ApiKey, Environment, Membership, SshKey, User, Variable
from station.core.errors import Forbidden, InvalidInput, NotFound
from station.core.principal import Principal, Role
from station.core.storable import check_json, check_text

_LARGEST_VALUE = 64 * 1024
_DIGITS_TOO_MANY = 19
_REFERENCE = re.compile(r"\$\{(secret|var):([^}]*)\}")


def store(row: models.Model, *, taken: str) -> None:
    """Validate and insert or update ``row``.

    Raises:
        InvalidInput: the first field that is not valid or holds what cannot be stored.
        NameTaken: a unique constraint spoke; ``taken`` is the message.
    """
    for column in row._meta.concrete_fields:
        value = getattr(row, column.attname)
        if isinstance(column, models.JSONField):
            check_json(column.name, value)
        elif isinstance(value, str):
            check_text(column.name, value)
    try:
        row.clean_fields()
    except ValidationError as error:
        field, problems = next(iter(error.message_dict.items()))
        raise InvalidInput(field, " ".join(problems)) from None
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError as error:
        if "unique" in str(error):
            raise NameTaken(taken) from None
        raise


def id_in(reference: int | str) -> int | None:
    """The row's id that a caller's reference can stand for, if it can stand for one."""
    text = str(reference)
    return int(text) if text.isdecimal() and len(text) < _DIGITS_TOO_MANY else None


# --- environments ---------------------------------------------------------------------------


def visible_environments(principal: Principal) -> models.QuerySet[Environment]:
    """The environments the principal is a member of."""
    environments = Environment.objects.all()
    return environments if principal.platform_admin else environments.filter(pk__in=principal.roles)


def environment(principal: Principal, reference: int | str) -> Environment:
    """The environment that a caller named: a number is an id, a text a name or else an id.

    Raises:
        EnvironmentNotFound: the principal is a member of none like that.
    """
    rows = visible_environments(principal)
    found = None if isinstance(reference, int) else rows.filter(name=reference).first()
    if found is None and (pk := id_in(reference)) is not None:
        found = rows.filter(pk=pk).first()
    if found is None:
        raise EnvironmentNotFound(
            f"There is no environment {str(reference)!r} that you are a member of."
        )
    return found


def create_environment(principal: Principal, *, name: str, description: str = "") -> Environment:
    """A new environment. For platform admins."""
    principal.require_platform_admin()
    row = Environment(name=name, description=description)
    with transaction.atomic():
        row.paused = pausing.locked_switch().paused
        store(row, taken=f"There is an environment {name!r} already.")
    row.refresh_from_db()
    return row


# --- variables ------------------------------------------------------------------------------


def visible_variables(principal: Principal) -> models.QuerySet[Variable]:
    """Variables of the environments the principal is a member of; secrets stay sealed."""
    rows = Variable.objects.select_related("environment")
    return rows if principal.platform_admin else rows.filter(environment_id__in=principal.roles)


def set_variable(
    principal: Principal, *, environment_id: int, name: str, value: str, secret: bool = False
) -> Variable:
    """Create or replace a variable. For admins of the environment."""
    principal.require(Role.ADMIN, environment_id)
    check_text("name", name)
    check_text("value", value)
    if len(value.encode()) > _LARGEST_VALUE:
        raise InvalidInput("value", f"is longer than {_LARGEST_VALUE} bytes")
    if secret and not value:
        raise InvalidInput("value", "a secret cannot be empty")
    with transaction.atomic():
        row = (
            Variable.objects.select_for_update()
            .filter(environment_id=environment_id, name=name)
            .first()
        ) or Variable(environment_id=environment_id, name=name)
        row.assign(value, secret=secret)
        store(row, taken=f"Variable {name!r} is being created by somebody else; try again.")
    return row


def delete_variable(principal: Principal, *, variable_id: int) -> None:
    """Remove a variable. For admins of its environment."""
    row = visible_variables(principal).filter(pk=variable_id).first()
    if row is None:
        raise NotFound(f"There is no variable {variable_id}.")
    principal.require(Role.ADMIN, row.environment_id)
    row.delete()


@dataclass(frozen=True, kw_only=True)
class Substitution:
    """The variables of one environment, for putting into tool server definitions as values."""

    plain: Mapping[str, str]
    secret: Mapping[str, str]

    def fill(self, text: str, *, where: str) -> str:
        """``text`` with each ``${var:NAME}`` and ``${secret:NAME}`` replaced by its value.

        The replaced text is not looked at again, so a value cannot refer to another.

        Raises:
            InvalidInput: ``where`` names a variable that does not exist or is of the other kind.
        """

        def value(match: re.Match[str]) -> str:
            kind, name = match.groups()
            values = self.secret if kind == "secret" else self.plain
            if name not in values:
                raise InvalidInput(
                    where,
                    f"refers to {match[0]}, and the environment has no such "
                    + ("secret" if kind == "secret" else "plain variable"),
                    fix=f"Set it with `station variable set {name} …`.",
                )
            return values[name]

        return _REFERENCE.sub(value, text)

    def secrets_in(self, texts: Iterable[str]) -> tuple[str, ...]:
        """The secret values that ``texts`` refer to, for redaction."""
        names = {m[2] for text in texts for m in _REFERENCE.finditer(text) if m[1] == "secret"}
        return tuple(self.secret[name] for name in sorted(names) if name in self.secret)


def substitution(environment_id: int, names: Iterable[str] | None = None) -> Substitution:
    """The environment's variables in clear. Only for handing to tool servers.

    ``names`` limits what is decrypted to what is needed.
    """
    rows = Variable.objects.filter(environment_id=environment_id)
    if names is not None:
        rows = rows.filter(name__in=set(names))
    plain: dict[str, str] = {}
    secret: dict[str, str] = {}
    for row in rows:
        (secret if row.secret else plain)[row.name] = row.reveal()
    return Substitution(plain=plain, secret=secret)


def references(texts: Iterable[str]) -> set[str]:
    """The names of variables that ``texts`` refer to."""
    return {match[2] for text in texts for match in _REFERENCE.finditer(text)}


# --- users and memberships ------------------------------------------------------------------


def create_user(
    principal: Principal,
    *,
    username: str,
    password: str | None = None,
    email: str = "",
    platform_admin: bool = False,
    service_account: bool = False,
) -> User:
    """A new user. Without a password nobody can log in as them until one is set.

    For platform admins.
    """
    principal.require_platform_admin()
    if service_account and password is not None:
        raise InvalidInput("password", "a service account has none", fix="Give it an API key.")
    row = User(
        username=username,
        email=email,
        is_superuser=platform_admin,
        is_staff=not service_account,
        is_service_account=service_account,
    )
    _give_password(row, password)
    store(row, taken=f"There is a user {username!r} already.")
    return row


def set_password(principal: Principal, *, username: str, password: str) -> User:
    """Replace a user's password. For platform admins and the user."""
    row = user(username)
    if row.pk != principal.user_id:
        principal.require_platform_admin()
    elif principal.kind != "user":
        # A leaked key must not become the log-in of its owner.
        raise Forbidden("A key cannot change its owner's password.", fix="Log in and change it.")
    if row.is_service_account:
        raise InvalidInput("password", "a service account has none", fix="Give it an API key.")
    _give_password(row, password)
    row.save(update_fields=["password"])
    return row


def user(username: str) -> User:
    """The user of that name. Raises :class:`NotFound`."""
    found = User.objects.filter(username=username).first()
    if found is None:
        raise NotFound(f"There is no user {username!r}.", fix="`station user list` shows them.")
    return found


def visible_users(principal: Principal) -> models.QuerySet[User]:
    """Every user for a platform admin, oneself for anybody else."""
    rows = User.objects.prefetch_related("memberships__environment")
    return rows if principal.platform_admin else rows.filter(pk=principal.user_id or 0)


def set_role(
    principal: Principal, *, username: str, environment_id: int, role: Role | None
) -> Membership | None:
    """Make the user a member with ``role``, or none when ``None``. For environment admins."""
    principal.require(Role.ADMIN, environment_id)
    member = user(username)
    if role is None:
        Membership.objects.filter(user=member, environment_id=environment_id).delete()
        return None
    row, _ = Membership.objects.update_or_create(
        user=member, environment_id=environment_id, defaults={"role": role.value}
    )
    return row


def _give_password(row: User, password: str | None) -> None:
    if password is None:
        row.set_unusable_password()
        return
    check_text("password", password)
    try:
        validate_password(password, row)
    except ValidationError as error:
        raise InvalidInput("password", " ".join(error.messages)) from None
    row.set_password(password)


# --- keys -----------------------------------------------------------------------------------


def create_api_key(
    principal: Principal,
    *,
    name: str,
    username: str | None = None,
    environment_ids: Iterable[int] = (),
    role: Role = Role.ADMIN,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its text, which is shown this once. For oneself, or by a platform admin."""
    owner = _key_owner(principal, username)
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidInput("expires_at", "lies in the past")
    wanted = set(environment_ids)
    if missing := wanted - set(visible_environments(principal).values_list("pk", flat=True)):
        raise EnvironmentNotFound(f"There is no environment {min(missing)}.")
    raw = keys.generate()
    pepper, pepper_id = principals.pepper()
    row = ApiKey(
        key_id=raw.key_id,
        digest=raw.digest(pepper),
        pepper_id=pepper_id,
        name=name,
        user=owner,
        role=role.value,
        expires_at=expires_at,
    )
    with transaction.atomic():
        store(row, taken="Try again.")
        row.environments.set(wanted)
    row.refresh_from_db()
    return row, str(raw)


def visible_api_keys(principal: Principal) -> models.QuerySet[ApiKey]:
    """Every key for a platform admin, one's own for anybody else."""
    rows = ApiKey.objects.select_related("user").prefetch_related("environments")
    return rows if principal.platform_admin else rows.filter(user_id=principal.user_id or 0)


def revoke_api_key(principal: Principal, *, key_id: str) -> ApiKey:
    """End a key; it stops working with the next request. For its owner and platform admins."""
    row = visible_api_keys(principal).filter(key_id=key_id.removeprefix("stn_")[:12]).first()
    if row is None:
        raise NotFound(f"There is no API key {key_id!r}.", fix="`station key list` shows yours.")
    ApiKey.objects.filter(pk=row.pk, revoked_at=None).update(revoked_at=Now())
    row.refresh_from_db()
    return row


def add_ssh_key(
    principal: Principal,
    *,
    public_key: str,
    name: str = "",
    username: str | None = None,
    expires_at: datetime | None = None,
) -> SshKey:
    """Let the key open the SSH gateway as its user. For oneself, or by a platform admin."""
    owner = _key_owner(principal, username)
    line, fingerprint = keys.normalise_ssh_key(public_key)
    comment = public_key.split(maxsplit=2)[2:]
    row = SshKey(
        user=owner,
        name=(name or " ".join(comment) or owner.username)[:100],
        public_key=line,
        fingerprint=fingerprint,
        expires_at=expires_at,
    )
    store(row, taken=f"The key {fingerprint} is registered already.")
    row.refresh_from_db()
    return row


def visible_ssh_keys(principal: Principal) -> models.QuerySet[SshKey]:
    """Every SSH key for a platform admin, one's own for anybody else."""
    rows = SshKey.objects.select_related("user")
    return rows if principal.platform_admin else rows.filter(user_id=principal.user_id or 0)


def revoke_ssh_key(principal: Principal, *, fingerprint: str) -> SshKey:
    """End an SSH key. For its owner and platform admins."""
    row = visible_ssh_keys(principal).filter(fingerprint=fingerprint).first()
    if row is None:
        raise NotFound(f"There is no SSH key {fingerprint!r}.")
    SshKey.objects.filter(pk=row.pk, revoked_at=None).update(revoked_at=Now())
    row.refresh_from_db()
    return row


def _key_owner(principal: Principal, username: str | None) -> User:
    """Whose key it becomes. A key never makes keys: a leaked one must not outlive revocation."""
    if username is not None:
        owner = user(username)
        if owner.pk != principal.user_id:
            principal.require_platform_admin()
    elif principal.user_id is None:
        raise InvalidInput("user", "is required here", fix="Name the user the key is for.")
    else:
        owner = User.objects.get(pk=principal.user_id)
    if principal.kind == "api_key" and not principal.platform_admin:
        raise Forbidden("An API key cannot create keys.", fix="Log in and create it yourself.")
    return owner
