"""What a worker takes over when it claims a run: the brief, its tools and the journal so far."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import F
from django.db.models.functions import Now

from agents import retrying
from agents.models import AgentVersion
from agents.retrying import RetryPolicy
from runs import journal, moves, queue
from runs.entries import Event
from runs.errors import ToolsUnavailable
from runs.models import Run
from runs.moves import Moved
from runs.replay import Brief
from runs.toolbox import GrantedTool
from station.config import current
from station.core import faults
from station.core.errors import StationError
from station.core.ids import uuid7
from toolservers import services as toolservers
from toolservers.definition import ServerDefinition
from toolservers.models import ToolServer

_FRESH_ENTRIES = 2
"""A run that was never worked on has two entries: submitted and claimed."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A claimed run, as one execution needs it. Times are in seconds."""

    run_id: int
    fence: int
    environment_id: int
    environment: str
    agent: str
    request_id: str
    remaining: float
    waited: float
    first: bool
    brief: Brief
    retry: RetryPolicy | None
    retries: int
    grants: Sequence[str]
    servers: Sequence[ToolServer]
    history: Sequence[Event]
    claimed: Event


class Taking:
    """The unit of work that claims the best eligible run and loads it.

    A repetition after the claim has committed only loads, also when the answer to the claim was
    lost: no run is claimed and then forgotten.
    """

    def __init__(self, worker: str, recent: Sequence[int]) -> None:
        self._worker, self._recent = worker, recent
        self._claimed: Moved | None = None
        self._event_id, self._asked = uuid7(), False

    def __call__(self) -> Assignment | None:
        """The run, or ``None`` when there is none to claim.

        Raises:
            Contended: see :func:`runs.queue.claim`.
        """
        if self._claimed is None and self._asked:
            self._claimed = moves.stored(self._event_id)
        if self._claimed is None:
            self._asked = True
            lease = current().execution_queue.lease
            self._claimed = queue.claim(self._worker, lease, self._recent, event_id=self._event_id)
            if self._claimed is None:
                return None
            faults.point("after-claim")
        return _load(self._claimed.run_id, self._claimed.fence, self._claimed.event)


def _load(run_id: int, fence: int, claimed: Event) -> Assignment:
    run = (
        Run.objects.select_related("version", "agent", "environment")
        .annotate(age=Now() - F("available_at"))
        .get(pk=run_id)
    )
    version: AgentVersion = run.version
    fresh = claimed.seq <= _FRESH_ENTRIES
    return Assignment(
        run_id=run_id,
        fence=fence,
        environment_id=run.environment_id,
        environment=run.environment.name,
        agent=run.agent.name,
        request_id=run.request_id,
        remaining=run.timeout - run.running_ms / 1000,
        waited=run.age.total_seconds(),
        first=fresh,
        brief=Brief(
            run_id=run_id,
            prompt=version.prompt,
            input=run.input,
            data=run.data,
            model=version.model or current().ai.model or "",
            fallback_models=tuple(version.fallback_models),
            parameters=version.parameters,
            output_schema=version.output_schema,
            max_steps=version.max_steps,
        ),
        retry=retrying.stored(version.retry),
        retries=run.retries,
        grants=version.tools,
        servers=_servers(run.environment_id, version.tools) if version.tools else (),
        history=() if fresh else journal.read(run_id),
        claimed=claimed,
    )


def _servers(environment_id: int, grants: Sequence[str]) -> list[ToolServer]:
    """The enabled servers the grants name; only those of the run's own environment exist here."""
    names = {grant.partition("/")[0] for grant in grants}
    return list(
        ToolServer.objects.filter(environment_id=environment_id, name__in=names, enabled=True)
    )


def definitions(assignment: Assignment) -> list[ServerDefinition]:
    """The servers' definitions with their variables filled in.

    Raises:
        ToolsUnavailable: a granted server is missing or disabled, or refers to a variable that
            does not exist.
    """
    present = {server.name for server in assignment.servers}
    for grant in assignment.grants:
        name = grant.partition("/")[0]
        if name not in present:
            raise ToolsUnavailable(
                f"Tool server {name!r}, granted to agent {assignment.agent!r}, is missing or "
                f"disabled in environment {assignment.environment!r}.",
                fix="Register or enable it, or change the agent's tools.",
            )
    try:
        return toolservers.resolve_all(assignment.servers)
    except StationError as error:
        raise ToolsUnavailable(str(error)) from error


def granted_tools(
    assignment: Assignment, resolved: Sequence[ServerDefinition]
) -> list[GrantedTool]:
    """The discovered tools that the agent's grants cover.

    Raises:
        ToolsUnavailable: a tool that is granted by name is not offered by its server.
    """
    tools: list[GrantedTool] = []
    by_server = {definition.server_id: definition for definition in resolved}
    wanted = set(assignment.grants)
    offered: set[str] = set()
    for server in assignment.servers:
        for tool in server.tools.filter(available=True):
            exact = f"{server.name}/{tool.name}"
            if exact not in wanted and f"{server.name}/*" not in wanted:
                continue
            offered.add(exact)
            tools.append(
                GrantedTool(
                    server=by_server[server.pk],
                    name=tool.name,
                    description=tool.description,
                    input_schema=tool.input_schema,
                    repeatable=tool.repeatable,
                )
            )
    if missing := sorted(grant for grant in wanted - offered if not grant.endswith("/*")):
        raise ToolsUnavailable(
            f"Tool {missing[0]!r} is granted to agent {assignment.agent!r}, but its server does "
            "not offer it.",
            fix="`station mcp tools` shows what a server offers.",
        )
    return tools
