"""``station env …``"""

from typing import Any

import click

from station.accounts import environments, services
from station.accounts.models import Environment
from station.commands import Session, command, fields, group, json_option, show_json, table
from station.commands.options import cap_option
from station.commands.rendering import Painted
from station.commands.text import age
from station.core.errors import InvalidInput
from station.core.unchanged import UNCHANGED, Unchanged

group("env", help="Environments: the walls between tenants.")


def environment_id(session: Session, name: str) -> int:
    """The id of a visible environment, by name or id. Raises ``EnvironmentNotFound``."""
    return services.environment(session.principal, name).pk


def _resource(session: Session, row: Environment) -> dict[str, Any]:
    from station.accounts.api.serializers import EnvironmentSerializer  # noqa: PLC0415 - 0.2 s

    return dict(EnvironmentSerializer(row, context={"principal": session.principal}).data)


def _state(row: Environment) -> Painted:
    if row.paused:
        text = "paused" if row.paused_itself else "queue paused"
        return Painted(text=text, style="yellow")
    return Painted(text="active", style="green")


@command("env", "list")
@json_option
def list_environments(session: Session, *, as_json: bool) -> None:
    """The environments you are a member of."""
    rows = services.visible_environments(session.principal)
    if as_json:
        show_json(session, [_resource(session, row) for row in rows])
        return
    table(
        session,
        ["ID", "NAME", "STATE", "ROLE", "CREATED", "DESCRIPTION"],
        (
            [row.pk, row.name, _state(row), _role(session, row), age(row.created_at),
             row.description]
            for row in rows
        ),
        right=["ID"],
        empty="There is no environment yet. `station env create NAME` makes one.",
    )  # fmt: skip


def _role(session: Session, row: Environment) -> str:
    role = session.principal.role_in(row.pk)
    return role.label if role else ""


@command("env", "show")
@click.argument("name")
@json_option
def show_environment(session: Session, *, name: str, as_json: bool) -> None:
    """One environment."""
    _show(session, services.environment(session.principal, name), as_json=as_json)


@command("env", "create")
@click.argument("name")
@click.option("--description", default="", help="What it is for.")
@json_option
def create_environment(session: Session, *, name: str, description: str, as_json: bool) -> None:
    """Make an environment. For platform admins."""
    row = services.create_environment(session.principal, name=name, description=description)
    if as_json:
        show_json(session, _resource(session, row))
    else:
        session.print(f"Environment {row.name} is made (id {row.pk}).")


@command("env", "pause")
@click.argument("name")
@json_option
def pause_environment(session: Session, *, name: str, as_json: bool) -> None:
    """Accept runs but start none; running ones go on. For the environment's admins."""
    switch(session, name, paused=True, as_json=as_json)


@command("env", "resume")
@click.argument("name")
@json_option
def resume_environment(session: Session, *, name: str, as_json: bool) -> None:
    """Start runs again, unless `station queue pause` holds all. For the environment's admins."""
    switch(session, name, paused=False, as_json=as_json)


@command("env", "set")
@click.argument("name")
@cap_option
@click.option("--description", help="What it is for.")
@json_option
def set_environment(
    session: Session,
    *,
    name: str,
    max_running: int | Unchanged | None,
    description: str | None,
    as_json: bool,
) -> None:
    """Change an environment; what is not named stays. For its admins."""
    if max_running is UNCHANGED and description is None:
        raise InvalidInput("NAME", "nothing to change is named", fix="Try --max-running 10.")
    row = services.environment(session.principal, name)
    row = environments.update(
        session.principal, row.pk, max_running=max_running, description=description
    )
    if as_json:
        show_json(session, _resource(session, row))
    else:
        session.print(f"Environment {row.name} is changed.")


def switch(session: Session, name: str, *, paused: bool, as_json: bool) -> None:
    """Pause or resume an environment, and tell."""
    row = services.environment(session.principal, name)
    row = environments.update(session.principal, row.pk, paused=paused)
    if as_json:
        show_json(session, _resource(session, row))
        return
    what = "paused: its runs wait" if paused else "active: its runs start"
    if row.paused and not row.paused_itself:
        what = "no longer paused itself, but the whole queue is: `station queue resume` ends that"
    session.print(f"Environment {row.name} is {what}.")


def _show(session: Session, row: Environment, *, as_json: bool) -> None:
    if as_json:
        show_json(session, _resource(session, row))
        return
    fields(
        session,
        [
            ("id", row.pk),
            ("name", row.name),
            ("state", _state(row)),
            ("most running", row.max_running),
            ("description", row.description),
            ("your role", _role(session, row)),
            ("created", age(row.created_at)),
        ],
    )
