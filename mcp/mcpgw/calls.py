"""What the tools do: units of work with the ORM, for a principal. No asyncio, no MCP."""

import json
from collections.abc import Mapping
from typing import Any

from agents import services as agents
from agents.models import Agent
from mcpgw import catalog
from runs import queue
from runs import services as runs
from runs.models import Run
from runs.states import TERMINAL, Status
from station.accounts import services as accounts
from station.core.errors import Conflict
from station.core.principal import Principal, Role

Body = dict[str, Any]
PAGE = 200
"""Agents in one page of tools."""


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
    try:
        return agents.get(principal, reference, environment_id=where)
    except Conflict as error:
        raise Conflict(error.message, fix="Say which with the argument environment.") from None


def submit(
    principal: Principal,
    agent: Agent,
    arguments: Mapping[str, Any],
    *,
    request_id: str,
) -> int:
    """Queue a run of ``agent`` for the tool's ``arguments``; its id. Raises as ``runs.submit``."""
    run = runs.submit(
        principal,
        agent,
        runs.Request(input=arguments["task"], data=arguments.get("data") or {}),
        idempotency_key=arguments.get("idempotency_key"),
        request_id=request_id,
    )
    return run.pk


def cancel(principal: Principal, run_id: int | str) -> int:
    """End a run; its id. Raises ``RunNotFound``, ``RunFinished``."""
    return runs.cancel(principal, runs.get(principal, run_id)).pk


def view(principal: Principal, run_id: int | str) -> Body:
    """A run as clients see it. Raises ``RunNotFound``."""
    run = runs.get(principal, run_id)
    body: Body = {
        "run_id": run.pk,
        "status": run.status,
        "agent": run.agent.name,
        "environment": run.environment.name,
        "output": run.output,
        "output_data": run.output_data,
        "error": _error(run),
        "usage": {
            "steps": run.steps,
            "input_tokens": run.input_tokens,
            "output_tokens": run.output_tokens,
            "cost_usd": f"{run.cost_usd:f}",
        },
        "url": f"/api/v1/runs/{run.pk}",
    }
    if run.state is Status.QUEUED:
        body["why_queued"] = queue.why_queued(run)
    return body


def ended(body: Body) -> bool:
    """Whether the run has reached its end."""
    return Status(body["status"]) in TERMINAL


def told(body: Body) -> str:
    """The run in words: its output, or how it stands and what to do next."""
    number, status = body["run_id"], Status(body["status"])
    match status:
        case Status.SUCCEEDED:
            return body["output"] or json.dumps(body["output_data"], ensure_ascii=False)
        case Status.QUEUED:
            state = f"Run {number} is queued. {body['why_queued']}"
        case Status.RUNNING:
            state = f"Run {number} is running, step {body['usage']['steps'] + 1}."
        case Status.WAITING:
            state = f"Run {number} waits for a person to decide about it."
        case _:
            error = body["error"]
            why = f": {error['message']} ({error['code']})" if error else "."
            return f"Run {number} {status.value.replace('_', ' ')}{why}"
    return f"{state} Call get_run with run_id {number} for its result."


def _error(run: Run) -> Body | None:
    if not run.error_code:
        return None
    return {
        "code": run.error_code,
        "message": run.error_message,
        "reference": run.error_reference,
    }


def _may_run(principal: Principal, environment_id: int) -> bool:
    role = principal.role_in(environment_id)
    return role is not None and role >= Role.OPERATOR
