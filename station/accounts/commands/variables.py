"""``station variable …``"""

from typing import Any

import click

from station.accounts import services
from station.accounts.commands.environments import environment_id
from station.accounts.models import Variable
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
from station.core.errors import NotFound

group("variable", help="Values and secrets that an environment's tool servers get.")

_HIDDEN = "********"


def _resource(row: Variable) -> dict[str, Any]:
    from station.accounts.api.serializers import VariableSerializer  # noqa: PLC0415 - 0.2 s

    return dict(VariableSerializer(row).data)


@command("variable", "list")
@environment_option()
@json_option
def list_variables(session: Session, *, env: str | None, as_json: bool) -> None:
    """The variables; secrets stay hidden."""
    rows = services.visible_variables(session.principal).order_by("environment__name", "name")
    if env is not None:
        rows = rows.filter(environment_id=environment_id(session, env))
    if as_json:
        show_json(session, [_resource(row) for row in rows])
        return
    table(
        session,
        ["ENVIRONMENT", "NAME", "VALUE", "CHANGED"],
        ([row.environment.name, row.name, _HIDDEN if row.secret else row.value,
          age(row.updated_at)] for row in rows),
        empty="There is no variable. `station variable set NAME --env ENV` makes one.",
    )  # fmt: skip


@command("variable", "set")
@click.argument("name")
@click.argument("value", required=False)
@environment_option(required=True)
@click.option("--secret", is_flag=True, help="Encrypt it, and never show it again.")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the value from standard input.")
@json_option
def set_variable(
    session: Session,
    *,
    name: str,
    value: str | None,
    env: str,
    secret: bool,
    from_stdin: bool,
    as_json: bool,
) -> None:
    """Make or replace a variable.

    A secret's value is asked for, or read with --stdin: on the command line, other users of the
    machine and the shell's history would see it. One newline at the end of --stdin is dropped.
    """
    if value is not None and from_stdin:
        raise click.UsageError("Give either VALUE or --stdin.")
    if value is not None and secret:
        raise click.UsageError(
            "A secret does not belong on the command line: leave VALUE out, or use --stdin."
        )
    chosen = environment_id(session, env)
    if from_stdin:
        value = _without_last_newline(session.read_stdin("value"))
    elif value is None:
        value = session.hidden_line("value", option="--stdin")
    row = services.set_variable(
        session.principal, environment_id=chosen, name=name, value=value, secret=secret
    )
    if as_json:
        show_json(session, _resource(row))
    else:
        kind = "Secret" if secret else "Variable"
        session.print(f"{kind} {row.name} is set in {row.environment.name}.")


def _without_last_newline(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")


@command("variable", "delete")
@click.argument("name")
@environment_option(required=True)
def delete_variable(session: Session, *, name: str, env: str) -> None:
    """Remove a variable."""
    environment = services.environment(session.principal, env)
    rows = services.visible_variables(session.principal)
    row = rows.filter(environment=environment, name=name).first()
    if row is None:
        raise NotFound(
            f"Environment {environment.name} has no variable {name!r}.",
            fix=f"`station variable list --env {environment.name}` shows them.",
        )
    services.delete_variable(session.principal, variable_id=row.pk)
    session.print(f"Variable {name} is deleted from {environment.name}.")
