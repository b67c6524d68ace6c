"""How everything stands: the queues of environments, agents with caps, workers, providers."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import models
from django.db.models import Count, Q

from agents import services as agents
from agents.models import Agent
from runs import queue
from runs.models import Circuit, Run, Worker
from runs.queue import QueueState
from runs.states import Status
from station.accounts import pausing
from station.accounts.models import Environment, QueueSwitch
from station.accounts.services import visible_environments
from station.core.principal import Principal

ALIVE = 15.0
"""Seconds after which a worker that did not report counts as gone."""


@dataclass(frozen=True, kw_only=True)
class CappedAgent:
    """How full an agent with a cap is.

    ``max_running_per_key`` is ``None`` without a concurrency key. ``keys_running`` counts the
    values of the key that have runs running, ``keys_full`` those of them that are at the cap.
    """

    environment: str
    agent_id: int
    agent: str
    paused: bool
    queued: int
    running: int
    max_running: int | None
    concurrency_key: str
    max_running_per_key: int | None
    keys_running: int
    keys_full: int


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What one principal sees of the queue; workers and providers are everybody's."""

    switch: QueueSwitch
    environments: Sequence[QueueState]
    agents: Sequence[CappedAgent]
    workers: Sequence[Worker]
    circuits: Sequence[Circuit]


def overview(principal: Principal, *, environment_id: int | None = None) -> Overview:
    """How the queues stand of the principal's environments, or of one of them."""
    environments = visible_environments(principal)
    if environment_id is not None:
        environments = environments.filter(pk=environment_id)
    return Overview(
        switch=pausing.queue_switch(),
        environments=queue.states(environments),
        agents=_capped(principal, environments),
        workers=list(queue.live_workers(within=ALIVE)),
        circuits=list(queue.open_circuits()),
    )


def _capped(principal: Principal, environments: models.QuerySet[Environment]) -> list[CappedAgent]:
    """The agents with a cap of their own, by environment and name."""
    rows = agents.visible(principal).filter(environment__in=environments)
    capped = list(
        rows.filter(Q(max_running__isnull=False) | ~Q(concurrency_key=""))
        .select_related(None)
        .select_related("environment")
        .order_by("environment__name", "name")
    )
    if not capped:
        return []
    by_status = _counts(capped, [Status.QUEUED, Status.RUNNING], "status")
    by_key = _counts(capped, [Status.RUNNING], "concurrency_key")
    return [_state(row, by_status.get(row.pk, {}), by_key.get(row.pk, {})) for row in capped]


def _counts(
    rows: Sequence[Agent], statuses: Sequence[Status], by: str
) -> dict[int, dict[str, int]]:
    """The runs of each agent in one of the statuses, counted by a column."""
    found: dict[int, dict[str, int]] = {}
    runs = Run.objects.filter(agent__in=[row.pk for row in rows], status__in=list(statuses))
    counted = runs.order_by().values_list("agent_id", by).annotate(n=Count("id"))
    for agent_id, value, n in counted:
        found.setdefault(agent_id, {})[value] = n
    return found


def _state(row: Agent, by_status: dict[str, int], by_key: dict[str, int]) -> CappedAgent:
    keyed = bool(row.concurrency_key)
    running = [n for key, n in by_key.items() if key] if keyed else []
    return CappedAgent(
        environment=row.environment.name,
        agent_id=row.pk,
        agent=row.name,
        paused=row.paused,
        queued=by_status.get(Status.QUEUED, 0),
        running=by_status.get(Status.RUNNING, 0),
        max_running=row.max_running,
        concurrency_key=row.concurrency_key,
        max_running_per_key=row.max_running_per_key if keyed else None,
        keys_running=len(running),
        keys_full=sum(n >= row.max_running_per_key for n in running),
    )
