"""``station agent …``, but what submits or reads runs: that is in :mod:`runs.commands`."""

from collections.abc import Sequence
from typing import Any

import click

from agents import changes, retrying, services
from agents.documents import apply_all, parse_documents, to_document
from agents.models import Agent, AgentVersion
from agents.services import Definition
from station.accounts.commands.environments import environment_id
from station.commands import (
    Session,
    command,
    environment_option,
    fields,
    group,
    json_option,
    show_json,
    table,
)
from station.commands.options import Duration, cap_option, json_object
from station.commands.rendering import Painted
from station.commands.text import age, duration
from station.core.errors import InvalidInput
from station.core.unchanged import UNCHANGED, Unchanged

group("agent", help="Agents: define, run, pause, and read what they did.")


def find(session: Session, name: str, env: str | None) -> Agent:
    """The visible agent of that name or id. Raises ``AgentNotFound`` and ``Conflict``."""
    chosen = None if env is None else environment_id(session, env)
    return services.get(session.principal, name, environment_id=chosen)


def _resource(row: Agent) -> dict[str, Any]:
    from agents.api.serializers import AgentDetailSerializer  # noqa: PLC0415 - 0.2 s

    return dict(AgentDetailSerializer(row).data)


def _per_key(row: Agent) -> str:
    return f"{row.max_running_per_key} of one {row.concurrency_key}" if row.concurrency_key else ""


def _retries(version: AgentVersion) -> str:
    policy = retrying.stored(version.retry)
    if policy is None:
        return ""
    times = f"after {duration(policy.backoff)}, doubling up to {duration(policy.longest)}"
    return f"at most {policy.at_most}, on {', '.join(policy.on)}; {times}"


def _state(row: Agent) -> Painted:
    if not row.enabled:
        return Painted(text="disabled", style="magenta")
    if row.paused:
        return Painted(text="paused", style="yellow")
    return Painted(text="enabled", style="green")


@command("agent", "list")
@environment_option()
@click.option("--enabled/--disabled", default=None, help="Only those that accept runs, or do not.")
@click.option("--paused/--not-paused", default=None, help="Only those whose runs wait, or start.")
@click.option(
    "--limit", "-n", type=click.IntRange(1, 1000), default=200, show_default=True, help="At most."
)
@click.option("--after-id", type=int, metavar="ID", help="Behind this agent, to page on.")
@json_option
def list_agents(
    session: Session,
    *,
    env: str | None,
    enabled: bool | None,
    paused: bool | None,
    limit: int,
    after_id: int | None,
    as_json: bool,
) -> None:
    """The agents, by environment and name."""
    rows = services.visible(session.principal).order_by("environment__name", "name")
    if after_id is not None:
        rows = services.behind(rows, services.get(session.principal, after_id))
    wanted = {
        "environment_id": None if env is None else environment_id(session, env),
        "enabled": enabled,
        "paused": paused,
    }
    rows = rows.filter(**{name: value for name, value in wanted.items() if value is not None})
    found = list(rows[: limit + 1])
    _show_agents(session, found[:limit], as_json=as_json)
    if len(found) > limit:
        last = found[limit - 1].pk
        session.note(f"There are more: `--after-id {last}` goes on behind these.")


def _show_agents(session: Session, rows: Sequence[Agent], *, as_json: bool) -> None:
    if as_json:
        from agents.api.serializers import AgentSerializer  # noqa: PLC0415 - 0.2 s

        shape = AgentSerializer()
        show_json(session, [shape.to_representation(row) for row in rows])
        return
    table(
        session,
        ["ID", "ENVIRONMENT", "NAME", "STATE", "VERSION", "MODEL", "CREATED", "DESCRIPTION"],
        (
            [row.pk, row.environment.name, row.name, _state(row),
             row.current_version.number if row.current_version else None,
             row.current_version.model if row.current_version else None,
             age(row.created_at), row.description]
            for row in rows
        ),
        right=["ID", "VERSION"],
        empty="There is no agent. `station agent create` or `station agent apply` makes one.",
    )  # fmt: skip


@command("agent", "show")
@click.argument("name")
@environment_option()
@json_option
def show_agent(session: Session, *, name: str, env: str | None, as_json: bool) -> None:
    """One agent, with the definition of its current version. NAME may be its id."""
    row = find(session, name, env)
    if as_json:
        show_json(session, _resource(row))
        return
    version = row.current_version
    assert version is not None
    fields(
        session,
        [
            ("id", row.pk),
            ("name", row.name),
            ("environment", row.environment.name),
            ("state", _state(row)),
            ("description", row.description),
            ("most running", row.max_running),
            ("most per key", _per_key(row)),
            ("created", age(row.created_at)),
            ("version", f"{version.number}, {age(version.created_at)} by {version.created_by}"),
            ("model", version.model or "(the configured one)"),
            ("fallbacks", ", ".join(version.fallback_models)),
            ("parameters", ", ".join(f"{k}={v}" for k, v in version.parameters.items())),
            ("tools", ", ".join(version.tools) or "(none)"),
            ("most steps", version.max_steps),
            ("timeout", duration(version.timeout) if version.timeout else "(the configured one)"),
            ("output", "as its JSON Schema says" if version.output_schema else ""),
            ("retries", _retries(version)),
        ],
    )
    session.print("\nprompt")
    for line in version.prompt.splitlines():
        session.print(f"  {line}")


@command("agent", "create")
@click.argument("name")
@environment_option(required=True)
@click.option("--prompt", required=True, help="What it is to do; @FILE reads it, @- from stdin.")
@click.option("--description", default="", help="What it is for.")
@click.option("--model", default="", help="The model it asks; the configured one when left out.")
@click.option(
    "--fallback-model", "fallback_models", multiple=True, help="Asked when the model fails."
)
@click.option("--tool", "tools", multiple=True, metavar="SERVER/TOOL", help="A tool, or SERVER/*.")
@click.option("--parameters", metavar="JSON", help="Passed to the model; @FILE reads it.")
@click.option("--max-steps", type=int, default=25, show_default=True)
@click.option("--timeout", type=Duration(), help="Running time of one run, like 300s.")
@click.option("--output-schema", metavar="JSON", help="JSON Schema of the answer; @FILE reads it.")
@click.option(
    "--retry", metavar="JSON",
    help='Failures after which a run goes on, like {"on": ["model_unavailable"]}; @FILE reads it.',
)  # fmt: skip
@json_option
def create_agent(
    session: Session,
    *,
    name: str,
    env: str,
    prompt: str,
    description: str,
    model: str,
    fallback_models: tuple[str, ...],
    tools: tuple[str, ...],
    parameters: str | None,
    max_steps: int,
    timeout: float | None,
    output_schema: str | None,
    retry: str | None,
    as_json: bool,
) -> None:
    """Make an agent. `station agent apply` makes and changes agents from a file."""
    definition = Definition(
        prompt=session.read_file("prompt", prompt[1:]) if prompt.startswith("@") else prompt,
        model=model,
        fallback_models=fallback_models,
        parameters=json_object(session, "parameters", parameters) if parameters else {},
        tools=tools,
        max_steps=max_steps,
        timeout=timeout,
        output_schema=(
            json_object(session, "output_schema", output_schema) if output_schema else None
        ),
        retry=json_object(session, "retry", retry) if retry else None,
    )
    row = services.create(
        session.principal,
        environment_id=environment_id(session, env),
        name=name,
        definition=definition,
        description=description,
    )
    if as_json:
        show_json(session, _resource(row))
        return
    session.print(f"Agent {row.name} is made in {row.environment.name} (id {row.pk}).")
    session.print(f'`station agent run {row.name} "…" --follow` runs it.')


@command("agent", "apply")
@click.option("--file", "-f", "file", required=True, help="YAML; - for standard input.")
@environment_option()
@json_option
def apply_agents(session: Session, *, file: str, env: str | None, as_json: bool) -> None:
    """Make agents be as a YAML file says, one document each: all of them, or none.

    What is new is made, what differs gets a new version, what is the same stays. --env is for
    documents that name no environment. `station agent export` writes such a file.
    """
    documents = parse_documents(session.read_file("file", file))
    applied = apply_all(session.principal, documents, environment=env)
    if as_json:
        show_json(session, [{**_resource(row), "outcome": outcome} for row, outcome in applied])
        return
    for row, outcome in applied:
        session.print(f"Agent {row.name} in {row.environment.name}: {outcome}.")


@command("agent", "export")
@click.argument("names", nargs=-1, required=True, metavar="NAME ...")
@environment_option()
@json_option
def export_agents(
    session: Session, *, names: tuple[str, ...], env: str | None, as_json: bool
) -> None:
    """Write agents as YAML that `station agent apply` takes."""
    documents = [to_document(find(session, name, env)) for name in names]
    if as_json:
        show_json(session, [document.values() for document in documents])
        return
    for index, document in enumerate(documents):
        if index:
            session.print("---")
        session.stdout.write(document.to_yaml())


@command("agent", "enable")
@click.argument("name")
@environment_option()
@json_option
def enable_agent(session: Session, *, name: str, env: str | None, as_json: bool) -> None:
    """Let an agent accept runs."""
    _switch(session, name, env, "enabled: it accepts runs", as_json=as_json, enabled=True)


@command("agent", "disable")
@click.argument("name")
@environment_option()
@json_option
def disable_agent(session: Session, *, name: str, env: str | None, as_json: bool) -> None:
    """Let an agent accept no more runs; those it has go on."""
    _switch(session, name, env, "disabled: it accepts no runs", as_json=as_json, enabled=False)


@command("agent", "pause")
@click.argument("name")
@environment_option()
@json_option
def pause_agent(session: Session, *, name: str, env: str | None, as_json: bool) -> None:
    """Accept runs but start none; running ones go on."""
    _switch(session, name, env, "paused: its runs wait", as_json=as_json, paused=True)


@command("agent", "resume")
@click.argument("name")
@environment_option()
@json_option
def resume_agent(session: Session, *, name: str, env: str | None, as_json: bool) -> None:
    """Start runs again."""
    _switch(session, name, env, "resumed: its runs start", as_json=as_json, paused=False)


@command("agent", "set")
@click.argument("name")
@environment_option()
@cap_option
@click.option(
    "--concurrency-key", metavar="PATH|none",
    help="Path into the data of runs, like customer.id: runs of one value are capped.",
)  # fmt: skip
@click.option(
    "--max-per-key", "max_running_per_key", type=int, metavar="N",
    help="Most runs at once of one value.",
)  # fmt: skip
@click.option("--description", help="What it is for.")
@json_option
def set_agent(
    session: Session,
    *,
    name: str,
    env: str | None,
    max_running: int | Unchanged | None,
    concurrency_key: str | None,
    max_running_per_key: int | None,
    description: str | None,
    as_json: bool,
) -> None:
    """Change an agent beside its definition; what is not named stays. NAME may be its id."""
    others = (concurrency_key, max_running_per_key, description)
    if max_running is UNCHANGED and others == (None,) * len(others):
        raise InvalidInput("NAME", "nothing to change is named", fix="Try --max-running 10.")
    row = changes.update(
        session.principal,
        find(session, name, env),
        max_running=max_running,
        concurrency_key="" if concurrency_key == "none" else concurrency_key,
        max_running_per_key=max_running_per_key,
        description=description,
    )
    if as_json:
        show_json(session, _resource(row))
    else:
        session.print(f"Agent {row.name} in {row.environment.name} is changed.")


def _switch(
    session: Session,
    name: str,
    env: str | None,
    what: str,
    *,
    as_json: bool,
    enabled: bool | None = None,
    paused: bool | None = None,
) -> None:
    row = changes.update(
        session.principal, find(session, name, env), enabled=enabled, paused=paused
    )
    if as_json:
        show_json(session, _resource(row))
    else:
        session.print(f"Agent {row.name} in {row.environment.name} is {what}.")
