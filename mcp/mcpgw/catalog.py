"""The tools that Station offers to MCP clients, and what their arguments must look like."""

import hashlib
from collections.abc import Mapping
from typing import Any

from mcp_types import Tool, ToolAnnotations

from runs.states import Status
from station.core.errors import InvalidInput
from station.core.json_schema import schema_of
from station.core.storable import check_json, printable

DEFAULT_WAIT = 50.0
"""Seconds; below the minute after which many clients give up on a tool."""
LONGEST_WAIT = 600.0
PREFIX = "agent"
_LONGEST_NAME = 64
_DIGEST = 8
_CLEANED = ("task", "data")
"""Their texts are cleaned when they are stored."""

Schema = Mapping[str, Any]

_TASK = {"type": "string", "description": "What the agent is to do, in plain words."}
_DATA = {
    "type": "object",
    "description": "Structured input for the agent, if it needs some.",
    "additionalProperties": True,
}
_WAIT = {
    "type": "number",
    "minimum": 0,
    "maximum": LONGEST_WAIT,
    "default": DEFAULT_WAIT,
    "description": "How many seconds to wait for the run's end before answering with its state.",
}
_RUN_ID = {"type": ["integer", "string"], "description": "The run's number."}
_AGENT = {"type": ["string", "integer"], "description": "The agent's name or id."}
_ENVIRONMENT = {
    "type": "string",
    "description": "The agent's environment, needed when its name exists in several.",
}
_KEY = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "description": (
        "A text of your choice. For 24 hours, repeating the same call with the same key starts no "
        "second run, so it is safe after a lost answer."
    ),
}
_DURATION = {"type": ["string", "number"]}
_MOMENT = {"type": "string", "description": "A point in time, like 2026-01-31T12:00:00Z."}


def _schema(required: tuple[str, ...] = (), **properties: Schema) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


AGENT_SCHEMA = _schema(("task",), task=_TASK, data=_DATA, idempotency_key=_KEY)

LIST_AGENTS = Tool(
    name="list_agents",
    title="List agents",
    description="The agents of this Station that you may see, with their environments.",
    input_schema=_schema(
        environment={"type": "string", "description": "Only agents of this environment."}
    ),
    annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
)
RUN_AGENT = Tool(
    name="run_agent",
    title="Run an agent",
    description=(
        "Give an agent a task, and wait a while for its result. A run that takes longer goes on: "
        "get_run waits for it further."
    ),
    input_schema=_schema(
        ("agent", "task"),
        agent=_AGENT,
        environment=_ENVIRONMENT,
        task=_TASK,
        data=_DATA,
        priority={
            "type": "integer",
            "minimum": -100,
            "maximum": 100,
            "default": 0,
            "description": "Among the queued runs of the environment; higher goes first.",
        },
        timeout=_DURATION | {"description": 'Most running time, like "5m" or 300 seconds.'},
        queue_timeout=_DURATION | {"description": 'Most time in the queue, like "1h"; no limit.'},
        wait_seconds=_WAIT,
        idempotency_key=_KEY,
    ),
    annotations=ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=True),
)
GET_RUN = Tool(
    name="get_run",
    title="Look at a run",
    description=(
        "A run's state and, once it has ended, its result. May wait for the end. A run that is in "
        "doubt about tool calls waits for a person to decide, and says so in open_calls."
    ),
    input_schema=_schema(("run_id",), run_id=_RUN_ID, wait_seconds=_WAIT | {"default": 0}),
    annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
)
LIST_RUNS = Tool(
    name="list_runs",
    title="List runs",
    description="Runs of the agents you may see, newest first, a page at a time.",
    input_schema=_schema(
        environment={"type": ["string", "integer"], "description": "Only of this environment."},
        agent=_AGENT | {"description": "Only of this agent, by its name or id."},
        status={
            "type": "array",
            "items": {"enum": [status.value for status in Status]},
            "description": "Only in one of these states.",
        },
        created_after=_MOMENT,
        created_before=_MOMENT,
        submitted_by={"type": "string", "description": "Only by this submitter, as runs show it."},
        limit={"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
        before_id={
            "type": "integer",
            "description": "Only older than this run: next_before_id of the page before.",
        },
    ),
    annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
)
RETRY_RUN = Tool(
    name="retry_run",
    title="Retry a run",
    description=(
        "Do again what a run that has ended was to do: a new run from its beginning, with the "
        "agent's present version. Tool calls of the old run that happened may happen again."
    ),
    input_schema=_schema(("run_id",), run_id=_RUN_ID, wait_seconds=_WAIT, idempotency_key=_KEY),
    annotations=RUN_AGENT.annotations,
)
CANCEL_RUN = Tool(
    name="cancel_run",
    title="Cancel a run",
    description="End a run: at once when it has not started, else after its present step.",
    input_schema=_schema(("run_id",), run_id=_RUN_ID),
    annotations=ToolAnnotations(
        read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
    ),
)
FIXED: Mapping[str, Tool] = {
    tool.name: tool for tool in (LIST_AGENTS, RUN_AGENT, GET_RUN, LIST_RUNS, RETRY_RUN, CANCEL_RUN)
}


def agent_tool(environment: str, agent: str, description: str) -> Tool:
    """The tool that runs one agent."""
    about = f"Agent {agent} of environment {environment}."
    return Tool(
        name=tool_name(environment, agent),
        title=f"{agent} ({environment})",
        description=f"{description.strip()} ({about})" if description.strip() else about,
        input_schema=AGENT_SCHEMA,
        annotations=RUN_AGENT.annotations,
    )


def tool_name(environment: str, agent: str) -> str:
    """The name of an agent's tool: ``agent_<environment>_<name>``, at most 64 characters.

    Names have no underscore, so that no two agents share one; a name that is too long ends in a
    digest of the whole.
    """
    name = f"{PREFIX}_{environment}_{agent}"
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST]
    return f"{name[: _LONGEST_NAME - _DIGEST - 1]}_{digest}"


def check(schema: Schema, arguments: Mapping[str, Any]) -> None:
    """Raise :class:`InvalidInput` naming the first argument that does not fit ``schema``.

    Neither does what the database could not take.
    """
    for name, value in arguments.items():
        check_json(printable(name), value, texts=name not in _CLEANED)
    violation = schema_of(schema).violation(dict(arguments))
    if violation is None:
        return
    known = ", ".join(schema["properties"]) or "none"
    raise InvalidInput(
        ".".join(map(str, violation.path)) or "arguments",
        violation.message,
        fix=f"The tool's arguments are: {known}.",
    )
