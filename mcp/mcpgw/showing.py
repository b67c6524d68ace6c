"""Runs as MCP clients see them: as structured content, and in words."""

import json
from typing import Any

from runs import decisions, queue
from runs import services as runs
from runs.models import Run
from runs.states import TERMINAL, Status
from station.commands.text import iso, one_line, to_json
from station.core.principal import Principal

Body = dict[str, Any]
_LONGEST_TASK = 200


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
        "wait_reason": run.wait_reason or None,
        "open_calls": list(decisions.open_calls(run)) if _in_doubt(run) else None,
        "retry_of": run.retry_of_id,
        "retries": run.retries,
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
            return _doubts(body)
        case _:
            error = body["error"]
            why = f": {error['message']} ({error['code']})" if error else "."
            return f"Run {number} {status.value.replace('_', ' ')}{why}"
    return f"{state} Call get_run with run_id {number} for its result."


def unread(run_id: int) -> str:
    """What a client is told of a run that is stored and cannot be looked at."""
    return (
        f"Run {run_id} is stored and will be carried out; how it stands cannot be read at the "
        f"moment. Do not submit it again: call get_run with run_id {run_id} in a while."
    )


def summary(run: Run) -> Body:
    """A run as lists show it."""
    return {
        "run_id": run.pk,
        "status": run.status,
        "agent": run.agent.name,
        "environment": run.environment.name,
        "task": one_line(run.input, _LONGEST_TASK),
        "submitted_by": run.submitted_by,
        "created_at": iso(run.created_at),
        "finished_at": None if run.finished_at is None else iso(run.finished_at),
        "wait_reason": run.wait_reason or None,
        "retry_of": run.retry_of_id,
        "error": _error(run),
    }


def listed(body: Body) -> str:
    """A page of runs in words, one a line."""
    lines = [
        f"{run['run_id']} {run['status']} {run['environment']}/{run['agent']}: {run['task']}"
        for run in body["runs"]
    ]
    if body["next_before_id"] is not None:
        following = body["next_before_id"]
        lines.append(f"There are older ones: call list_runs with before_id {following}.")
    return "\n".join(lines) or "There is no run like that."


def _error(run: Run) -> Body | None:
    if not run.error_code:
        return None
    return {
        "code": run.error_code,
        "message": run.error_message,
        "reference": run.error_reference,
    }


def _in_doubt(run: Run) -> bool:
    return run.state is Status.WAITING and run.wait_reason == "doubt"


def _doubts(body: Body) -> str:
    """What a waiting run waits for, who decides about it and how."""
    number = body["run_id"]
    calls = [
        f"  {call['call_id']}: {one_line(call['tool'])} {to_json(call['arguments'])}"
        for call in body["open_calls"] or ()
    ]
    return "\n".join(
        [
            f"Run {number} is in doubt: nobody knows whether these tool calls happened.",
            *calls,
            "It goes on once a person has looked and decided, which cannot be done over MCP: "
            f"an operator of environment {body['environment']} uses the run's page in the web "
            f"admin, `station run decide {number}`, or POST {body['url']}/decide. Tell them; "
            "asking again before that finds the same.",
        ]
    )
