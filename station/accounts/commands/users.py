"""``station user …``"""

import secrets
from typing import Any

import click

from station.accounts import services
from station.accounts.commands.environments import environment_id
from station.accounts.models import User
from station.commands import (
    Session,
    command,
    environment_option,
    group,
    json_option,
    show_json,
    table,
)
from station.commands.text import age
from station.core.errors import InvalidInput
from station.core.principal import Role

group("user", help="Users, their passwords and their roles.")

NO_ROLE = "none"
ROLES = [role.label for role in Role]


def _resource(row: User) -> dict[str, Any]:
    from station.accounts.api.serializers import UserSerializer  # noqa: PLC0415 - 0.2 s

    return dict(UserSerializer(row).data)


@command("user", "list")
@json_option
def list_users(session: Session, *, as_json: bool) -> None:
    """The users; yourself alone unless you are a platform admin."""
    rows = services.visible_users(session.principal)
    if as_json:
        show_json(session, [_resource(row) for row in rows])
        return
    table(
        session,
        ["ID", "NAME", "KIND", "ROLES", "LAST LOG-IN", "EMAIL"],
        ([row.pk, row.username, _kind(row), _roles(row), age(row.last_login), row.email]
         for row in rows),
        right=["ID"],
        empty="There is no user that you may see. `station user create NAME` makes one.",
    )  # fmt: skip


def _kind(row: User) -> str:
    if not row.is_active:
        return "disabled"
    if row.is_service_account:
        return "service account"
    return "platform admin" if row.is_superuser else "user"


def _roles(row: User) -> str:
    return ", ".join(f"{m.environment.name}: {Role(m.role).label}" for m in row.memberships.all())


@command("user", "create")
@click.argument("username")
@click.option("--email", default="")
@click.option("--platform-admin", is_flag=True, help="May do anything in every environment.")
@click.option("--service-account", is_flag=True, help="Authenticates by API key only.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--generate", is_flag=True, help="Make a password and print it, once.")
@json_option
def create_user(
    session: Session,
    *,
    username: str,
    email: str,
    platform_admin: bool,
    service_account: bool,
    password_stdin: bool,
    generate: bool,
    as_json: bool,
) -> None:
    """Make a user. For platform admins.

    Without --password-stdin or --generate nobody can log in as them until `station user password`.
    """
    password = None
    if password_stdin or generate:
        password = _password(session, password_stdin=password_stdin, generate=generate)
    row = services.create_user(
        session.principal,
        username=username,
        password=password,
        email=email,
        platform_admin=platform_admin,
        service_account=service_account,
    )
    shown = password if generate else None
    if as_json:
        show_json(session, {**_resource(row), **({"password": shown} if shown else {})})
        return
    session.print(f"User {row.username} is made.")
    if shown:
        _tell(session, shown)
    elif password is None and not service_account:
        session.note(f"Nobody can log in yet: `station user password {row.username}` sets it.")


@command("user", "password")
@click.argument("username")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--generate", is_flag=True, help="Make a password and print it, once.")
def set_password(session: Session, *, username: str, password_stdin: bool, generate: bool) -> None:
    """Set a user's password; it is asked for unless an option says otherwise."""
    services.user(username)  # before anything is typed
    password = _password(session, password_stdin=password_stdin, generate=generate)
    services.set_password(session.principal, username=username, password=password)
    session.note(f"The password of {username} is changed.")
    if generate:
        _tell(session, password)


@command("user", "role")
@click.argument("username")
@click.argument("role", type=click.Choice([*ROLES, NO_ROLE]))
@environment_option(required=True)
def set_role(session: Session, *, username: str, role: str, env: str) -> None:
    """Give a user a role in an environment, or none."""
    chosen = environment_id(session, env)
    services.set_role(
        session.principal,
        username=username,
        environment_id=chosen,
        role=None if role == NO_ROLE else Role.parse(role),
    )
    what = "has no role" if role == NO_ROLE else f"has the role {role}"
    session.print(f"{username} {what} in {env}.")


def _password(session: Session, *, password_stdin: bool, generate: bool) -> str:
    if password_stdin and generate:
        raise click.UsageError("--password-stdin and --generate exclude each other.")
    if generate:
        return secrets.token_urlsafe(18)
    if password_stdin:
        password = session.read_stdin("password").rstrip("\r\n")
        if not password:
            raise InvalidInput("password", "standard input holds none")
        return password
    return session.hidden_line("password", option="--password-stdin", repeat=True)


def _tell(session: Session, password: str) -> None:
    session.note("The password, shown only now:")
    session.print(password)
