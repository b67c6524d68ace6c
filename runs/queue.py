"""The queue is the table: what may be claimed next, who claims, and why a run still waits."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, models, transaction
from django.db.models import Count, Min, Q
from django.db.models.functions import Now

from runs import transitions
from runs.models import Run, Worker
from runs.states import Status

_ELIGIBLE = """
  q.status = 'queued' AND q.available_at <= clock_timestamp()
  AND NOT EXISTS (SELECT FROM agents a WHERE a.id = q.agent_id AND a.paused)
  AND NOT EXISTS (SELECT FROM environments e WHERE e.id = q.environment_id AND e.paused)
"""
_NEXT = f"""
  SELECT q.id FROM agent_runs q WHERE {_ELIGIBLE}
   ORDER BY q.priority DESC, q.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
"""  # noqa: S608 - constants
_UNHEARD = f"""
  SELECT count(*) FROM (SELECT FROM agent_runs q WHERE {_ELIGIBLE}
    AND q.available_at < clock_timestamp() - make_interval(secs => %s) LIMIT %s) AS late
"""  # noqa: S608 - constants


@dataclass(frozen=True, kw_only=True)
class QueueState:
    """How the queue of one environment stands."""

    environment: str
    queued: int
    running: int
    waiting: int
    paused: bool
    oldest_queued_at: datetime | None


def claim(worker: str, lease: float) -> transitions.Moved | None:
    """Take the best eligible run for ``worker``, or ``None`` when there is none.

    Best: highest priority, then oldest. Concurrent claimers skip each other's rows.
    """
    return transitions.claim(worker, lease, _NEXT, {})


def unheard(*, older_than: float, at_most: int) -> int:
    """How many eligible runs nobody has claimed for ``older_than`` seconds, counted to a bound."""
    with connection.cursor() as cursor:
        cursor.execute(_UNHEARD, [older_than, at_most])
        row = cursor.fetchone()
    return int(row[0])


def report_worker(name: str, *, host: str, pid: int, slots: int, busy: int, draining: bool) -> None:
    """Say that a worker lives and how full it is."""
    Worker.objects.update_or_create(
        name=name,
        defaults={
            "host": host,
            "pid": pid,
            "slots": slots,
            "busy": busy,
            "draining": draining,
            "seen_at": Now(),
        },
    )


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
            oldest_queued_at=oldest.get(environment.pk),
        )
        for environment in environments.order_by("name")
    ]


def why_queued(run: Run) -> str:
    """One sentence for a person: why this queued run has not started."""
    if run.environment.paused:
        return f"Environment {run.environment.name} is paused."
    if run.agent.paused:
        return f"Agent {run.agent.name} is paused."
    with transaction.atomic():
        ahead = Run.objects.filter(status="queued").filter(
            Q(priority__gt=run.priority) | Q(priority=run.priority, pk__lt=run.pk)
        )
        count = ahead[:1000].count()
        workers = list(live_workers(within=15.0))
    if not workers:
        return "No worker is running: start one with `station worker`."
    busy, slots = sum(w.busy for w in workers), sum(w.slots for w in workers)
    if count:
        more = "1000 or more" if count == 1000 else str(count)
        return f"{more} run(s) are ahead of it; {busy} of {slots} worker slots are busy."
    return f"It is next; {busy} of {slots} worker slots are busy."
