"""What the tools do: units of work with the ORM, for a principal. No asyncio, no MCP."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agents import services as agents
from agents.models import Agent
from mcpgw import catalog, showing
from mcpgw.showing import Body
from runs import services as runs
from runs.errors import RunFinished
from runs.filters import Filters
from runs.states import Status
from station.accounts import services as accounts
from station.config.quantities import parse_duration
from station.core.errors import InvalidInput
from station.core.principal import Principal, Role

PAGE = 200
"""Agents in one page of tools."""
_RUNS = 50


def list_agents(principal: Principal, environment: str | None) -> Body:
    """The agents the principal may see. Raises ``EnvironmentNotFound``."""
    rows = agents.visible(principal)
    if environment is not None:
        rows = rows.filter(environment=accounts.environment(principal, environment))
    return {
        "agents": [
            {
                "id": row.pk,
                "environment": row.environment.name,
                "name": row.name,
                "description": row.description,
                "enabled": row.enabled,
                "paused": row.paused,
                "tool": catalog.tool_name(row.environment.name, row.name),
                "may_run": row.enabled and _may_run(principal, row.environment_id),
            }
            for row in rows.order_by("environment__name", "name")
        ]
    }


def agent_tools(principal: Principal, after: int) -> tuple[list[Agent], int | None]:
    """A page of agents that the principal may run, and the id to go on after, if any follow."""
    rows = agents.visible(principal).filter(
        enabled=True, current_version__isnull=False, pk__gt=after
    )
    if not principal.platform_admin:
        mine = [e for e, role in principal.roles.items() if role >= Role.OPERATOR]
        rows = rows.filter(environment_id__in=mine)
    page = list(rows.order_by("pk")[: PAGE + 1])
    return page[:PAGE], page[PAGE - 1].pk if len(page) > PAGE else None


def agent_of_tool(principal: Principal, tool: str) -> Agent | None:
    """The agent whose tool has that name, if the principal may see one."""
    prefix, _, rest = tool.partition("_")
    if prefix != catalog.PREFIX:
        return None
    environment, _, name = rest.partition("_")
    rows = agents.visible(principal).filter(environment__name=environment)
    exact = rows.filter(name=name).first()
    if exact is not None and catalog.tool_name(environment, exact.name) == tool:
        return exact
    # A name that was cut: only the digest tells which one it is.
    for row in agents.visible(principal).filter(environment__name__startswith=environment[:40]):
        if catalog.tool_name(row.environment.name, row.name) == tool:
            return row
    return None


def find_agent(principal: Principal, reference: int | str, environment: str | None) -> Agent:
    """The agent with that name or id. Raises ``AgentNotFound``, ``Conflict`` when ambiguous."""
    where = None if environment is None else accounts.environment(principal, environment).pk
    return agents.get(principal, reference, environment_id=where)


# Units that write are repeated when an answer of the database was lost, perhaps after the commit.


def submit(
    principal: Principal,
    agent: Agent,
    arguments: Mapping[str, Any],
    *,
    request_id: str,
) -> int:
    """Queue a run of ``agent`` for the tool's ``arguments``; its id. Raises as ``runs.submit``.

    However often it is called for one ``request_id``, that is one run.
    """
    timeout, queue_timeout = (
        _seconds(name, arguments.get(name)) for name in ("timeout", "queue_timeout")
    )
    request = runs.Request(
        input=arguments["task"],
        data=arguments.get("data") or {},
        priority=int(arguments.get("priority", 0)),
        timeout=timeout,
        queue_timeout=queue_timeout,
    )
    key = _key(arguments, request_id)
    try:
        run = runs.submit(principal, agent, request, idempotency_key=key, request_id=request_id)
    except InvalidInput as error:
        raise (error.at("task") if error.field == "input" else error) from None
    return run.pk


def retry(principal: Principal, arguments: Mapping[str, Any], *, request_id: str) -> int:
    """Queue a run that does again what another was to do; its id. Raises as ``runs.retry``.

    However often it is called for one ``request_id``, that is one run.
    """
    ended = runs.get(principal, arguments["run_id"])
    run = runs.retry(
        principal, ended, idempotency_key=_key(arguments, request_id), request_id=request_id
    )
    return run.pk


def _key(arguments: Mapping[str, Any], request_id: str) -> str:
    """What makes repetitions one run: the client's key, or one for this call alone."""
    return str(arguments.get("idempotency_key", f"mcp:{request_id}"))


class Cancellation:
    """One request to end a run, which may be carried out more than once."""

    def __init__(self, principal: Principal, run_id: int | str) -> None:
        self._principal = principal
        self._run_id = run_id
        self._asked = False

    def __call__(self) -> Body:
        """End the run, or tell it to stop; the run then.

        Raises:
            RunNotFound, RunFinished: as the names say.
        """
        run = runs.get(self._principal, self._run_id)
        before, self._asked = self._asked, True
        try:
            runs.cancel(self._principal, run)
        except RunFinished:
            ended = runs.get(self._principal, run.pk)
            if not before or ended.state is not Status.CANCELLED:  # else this very request did it
                raise
        return showing.view(self._principal, run.pk)


def list_runs(principal: Principal, arguments: Mapping[str, Any]) -> Body:
    """A page of runs, newest first, and the id to go on before, if older ones follow.

    Raises:
        EnvironmentNotFound, AgentNotFound, Conflict: a filter names what is not there.
    """
    environment_id = agent_id = None
    if "environment" in arguments:
        environment_id = accounts.environment(principal, arguments["environment"]).pk
    if "agent" in arguments:
        agent_id = agents.get(principal, arguments["agent"], environment_id=environment_id).pk
    wanted = Filters(
        environment_id=environment_id,
        agent_id=agent_id,
        statuses=arguments.get("status", ()),
        created_after=_moment("created_after", arguments.get("created_after")),
        created_before=_moment("created_before", arguments.get("created_before")),
        submitted_by=arguments.get("submitted_by"),
    )
    rows = wanted.narrow(runs.visible(principal))
    if "before_id" in arguments:
        rows = rows.filter(pk__lt=arguments["before_id"])
    limit = int(arguments.get("limit", _RUNS))
    found = list(rows.order_by("-pk")[: limit + 1])
    return {
        "runs": [showing.summary(run) for run in found[:limit]],
        "next_before_id": found[limit - 1].pk if len(found) > limit else None,
    }


def _seconds(field: str, value: str | float | None) -> float | None:
    if not isinstance(value, str):
        return value
    try:
        return parse_duration(value)
    except ValueError:
        raise InvalidInput(field, f"{value!r} is no duration", fix='Write it like "5m".') from None


def _moment(field: str, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise InvalidInput(
            field, f"{value!r} is no point in time", fix="Write it like 2026-01-31T12:00:00Z."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _may_run(principal: Principal, environment_id: int) -> bool:
    role = principal.role_in(environment_id)
    return role is not None and role >= Role.OPERATOR
