"""The queue is the table: what may be claimed next, who claims, and why a run still waits."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, models
from django.db.models import Count, Min, Q
from django.utils import timezone

from runs import transitions
from runs.errors import QueueFull
from runs.models import Circuit, Run, Worker
from runs.moves import Moved
from runs.states import Status
from station.accounts import pausing
from station.config import current
from station.core.ids import uuid7

# What could start and has not: of each agent as many as its caps admit, and of each environment.
_UNHEARD = """
  WITH running AS (
    SELECT environment_id, agent_id, count(*) AS n FROM agent_runs WHERE status = 'running'
     GROUP BY environment_id, agent_id
  ), of_agents AS (
    SELECT a.environment_id, sum(greatest(0, least(late.n, a.max_running - coalesce(r.n, 0)))) AS n
      FROM agents a
      LEFT JOIN running r ON r.agent_id = a.id AND r.environment_id = a.environment_id
     CROSS JOIN LATERAL (
       SELECT count(*) AS n FROM (
         SELECT FROM agent_runs q
          WHERE q.agent_id = a.id AND q.status = 'queued' AND NOT q.behind
            AND q.available_at <= clock_timestamp() - make_interval(secs => %(older)s)
            AND (q.concurrency_key = '' OR a.max_running_per_key > (
                  SELECT count(*) FROM agent_runs o WHERE o.agent_id = q.agent_id
                     AND o.concurrency_key = q.concurrency_key AND o.status = 'running'))
          ORDER BY q.priority DESC, q.id LIMIT %(most)s) AS found) AS late
     WHERE NOT a.paused AND late.n > 0
       AND NOT EXISTS (SELECT FROM agents_unreachable u WHERE u.id = a.id)
     GROUP BY a.environment_id
  ), of_environments AS (
    SELECT least(o.n, e.max_running - coalesce((
             SELECT sum(r.n) FROM running r WHERE r.environment_id = e.id), 0)) AS n
      FROM of_agents o JOIN environments e ON e.id = o.environment_id
     WHERE NOT e.paused
  )
  SELECT least(coalesce(sum(greatest(n, 0)), 0), %(most)s) FROM of_environments
"""


_RETRY_AFTER = 5.0
_COUNTED = 1000
_MOST_BELLS = 1000


@dataclass
class _Room:
    """How many runs this process may still submit before it must count again, and until when."""

    free: int = 0
    taken: int = 0
    until: float = 0.0


_room, _room_lock = _Room(), threading.Lock()


@dataclass(frozen=True, kw_only=True)
class QueueState:
    """How the queue of one environment stands."""

    environment: str
    queued: int
    running: int
    waiting: int
    paused: bool
    max_running: int | None
    oldest_queued_at: datetime | None


class Contended(Exception):
    """Nothing was claimed, but trying again at once may well succeed."""


def claim(
    worker: str, lease: float, recent: Sequence[int] = (), *, event_id: UUID | None = None
) -> Moved | None:
    """Take the best eligible run for ``worker``, or ``None`` when there is none.

    The environment with the fewest running runs goes first, then the one least recently claimed
    from (``recent``: environment ids, oldest claim first). Within it the highest priority goes
    first, then age. No cap is ever exceeded, and concurrent claimers skip each other's rows.
    ``event_id`` finds the claim with :func:`runs.moves.stored` when the answer is lost.

    Raises:
        Contended: a lane with a cap was locked by another claimer and nothing else was found, or
            what was found changed only just now.
    """
    picked, moved = transitions.claim(worker, lease, recent, event_id or uuid7())
    if moved is None and picked is not None:
        raise Contended
    return moved


def bells_wanted(*, older_than: float) -> int:
    """One for each run unclaimed for ``older_than`` seconds, at most one per free slot."""
    free = min(free_slots(within=3 * current().execution_queue.heartbeat), _MOST_BELLS)
    return unheard(older_than=older_than, at_most=free) if free else 0


def unheard(*, older_than: float, at_most: int) -> int:
    """How many runs could start and nobody has claimed them for ``older_than`` seconds.

    Counted to the bound ``at_most``. Runs that a pause, a cap or a provider that is down holds up
    are left out.
    """
    with connection.cursor() as cursor:
        cursor.execute(_UNHEARD, {"older": older_than, "most": at_most})
        row = cursor.fetchone()
    return int(row[0])


def check_room() -> None:
    """Raise :class:`QueueFull` when as many runs are queued as ``buffer_size`` admits.

    The count is exact near the limit. Far below it, it may be up to a second old: each process
    then only adds what it submitted itself.
    """
    limit = current().execution_queue.buffer_size
    now = time.monotonic()
    with _room_lock:
        if now < _room.until and _room.taken < _room.free:
            _room.taken += 1
            return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM (SELECT FROM agent_runs WHERE status = 'queued' "
            "ORDER BY id DESC LIMIT %s) AS q",  # in the order of an index
            [limit],
        )
        queued = int(cursor.fetchone()[0])
    if queued >= limit:
        raise QueueFull(
            f"{limit} runs are queued, which is as many as execution_queue.buffer_size admits.",
            fix="Try again later, or add workers.",
            retry_after=_RETRY_AFTER,
        )
    with _room_lock:
        # Other processes submit too: only a part of what is free may be used without a look.
        _room.free, _room.taken, _room.until = (limit - queued) // 10, 0, now + 1.0


def live_workers(*, within: float) -> models.QuerySet[Worker]:
    """Workers that reported within the last ``within`` seconds."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp() - make_interval(secs => %s)", [within])
        since = cursor.fetchone()[0]
    return Worker.objects.filter(seen_at__gt=since)


def free_slots(*, within: float) -> int:
    """Slots that live, undrained workers have free."""
    totals = live_workers(within=within).filter(draining=False)
    return sum(max(worker.slots - worker.busy, 0) for worker in totals)


def forget_worker(name: str) -> None:
    """Remove a worker that has ended."""
    Worker.objects.filter(name=name).delete()


def states(environments: models.QuerySet[Any]) -> list[QueueState]:
    """The queue of each of ``environments`` (those of one principal)."""
    live = [Status.QUEUED.value, Status.RUNNING.value, Status.WAITING.value]
    counts: dict[int, dict[str, int]] = {}
    oldest: dict[int, datetime] = {}
    rows = (
        Run.objects.filter(status__in=live, environment__in=environments)
        .values("environment_id", "status")
        .annotate(n=Count("id"), oldest=Min("created_at"))
        .order_by()
    )
    for row in rows:
        counts.setdefault(row["environment_id"], {})[row["status"]] = row["n"]
        if row["status"] == Status.QUEUED:
            oldest[row["environment_id"]] = row["oldest"]
    return [
        QueueState(
            environment=environment.name,
            queued=counts.get(environment.pk, {}).get("queued", 0),
            running=counts.get(environment.pk, {}).get("running", 0),
            waiting=counts.get(environment.pk, {}).get("waiting", 0),
            paused=environment.paused,
            max_running=environment.max_running,
            oldest_queued_at=oldest.get(environment.pk),
        )
        for environment in environments.order_by("name")
    ]


def open_circuits() -> models.QuerySet[Circuit]:
    """The model providers that are down, for which runs wait."""
    return Circuit.objects.filter(retry_at__isnull=False)


def unreachable(agent_id: int) -> Iterable[Circuit]:
    """The open circuit, if there is one, that keeps the runs of an agent from starting."""
    return Circuit.objects.raw(
        "SELECT c.* FROM model_circuits c JOIN agents_unreachable u USING (provider) "
        "WHERE u.id = %s",
        [agent_id],
    )


def why_queued(run: Run) -> str:
    """One sentence for a person: why this queued run has not started."""
    return next(_reasons(run))


def _reasons(run: Run) -> Iterator[str]:
    environment, agent = run.environment, run.agent
    if environment.paused:
        switch = pausing.queue_switch()
        if switch.paused:
            since = f"{switch.since:%Y-%m-%d %H:%M} UTC"
            yield f"The whole queue is paused, by {switch.by} since {since}."
        yield f"Environment {environment.name} is paused."
    if agent.paused:
        yield f"Agent {agent.name} is paused."
    for circuit in unreachable(agent.pk):
        due = circuit.retry_at is not None and circuit.retry_at > timezone.now()
        then = f"tried again at {circuit.retry_at:%H:%M:%S} UTC" if due else "being tried right now"
        yield (
            f"The model provider {circuit.provider} failed {circuit.failures} times in a row "
            f"({circuit.problem}); it is {then}. Check its status, STN_AI_BASE_URL and the network."
        )
    if run.available_at > timezone.now():
        yield f"It is held back until {run.available_at:%Y-%m-%d %H:%M:%S} UTC."
    running = Run.objects.filter(status="running")
    if full := _full(running.filter(environment=environment), environment.max_running):
        yield f"Environment {environment.name} has {full} runs running, its cap."
    if full := _full(running.filter(agent=agent), agent.max_running):
        yield f"Agent {agent.name} has {full} runs running, its cap."
    if run.concurrency_key:
        same = running.filter(agent=agent, concurrency_key=run.concurrency_key)
        if full := _full(same, agent.max_running_per_key):
            yield f"{full} run(s) of {run.concurrency_key!r} are running, the cap of one key."
        if run.behind:
            yield f"Other runs of {run.concurrency_key!r} come before it."
    workers = list(live_workers(within=15.0))
    if not workers:
        yield "No worker is running: start one with `station worker`."
    ahead = Run.objects.filter(status="queued", environment=environment).filter(
        Q(priority__gt=run.priority) | Q(priority=run.priority, pk__lt=run.pk)
    )
    count = ahead[:_COUNTED].count()
    busy = (
        f"{sum(w.busy for w in workers)} of {sum(w.slots for w in workers)} worker slots are busy"
    )
    if count:
        more = f"{count} or more" if count == _COUNTED else str(count)
        yield f"{more} run(s) are ahead of it; {busy}."
    yield f"It is next in its environment; {busy}."


def _full(running: models.QuerySet[Run], cap: int | None) -> int | None:
    """The number of running runs where it has reached the cap."""
    if cap is None:
        return None
    count = running.count()
    return count if count >= cap else None
