"""A cap is counted again under its lock: what was free when a claim began may be taken by now.

Here the claim is held up in between, when it knows already what is full.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from agents.models import Agent
from runs import queue
from runs.models import Run
from runs.moves import Moved
from tests import factories
from tests.integration.runs.crowding import crowd, fallen_silent
from tests.integration.runs.locking import locked, locked_runs, waiting_for_locks
from tests.integration.runs.test_caps import cap
from tests.processes import until

pytestmark = pytest.mark.django_db(transaction=True)
LEASE = 60.0
BUSY, AHEAD = 600, 190
_DECIDING = """
SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
 WHERE datname = current_database() AND locktype = 'advisory'
"""


def claim_elsewhere() -> Moved | None:
    """A claim, for a thread of its own."""
    try:
        return queue.claim("late", LEASE)
    finally:
        connection.close()


def somebody_else_claims(run_id: int) -> bool:
    """Do to the row what another claim does when it commits; whether the run was still queued."""
    now = timezone.now()
    changed = Run.objects.filter(pk=run_id, status="queued").update(
        status="running",
        worker="soon",
        fence=1,
        claimed_at=now,
        lease_expires_at=now + timedelta(seconds=LEASE),
    )
    return changed == 1


def line_up(agent: Agent, most: int) -> int:
    """One run less than the cap is running, and two are queued; the first of these."""
    key = "a" if agent.concurrency_key else ""
    for _ in range(most - 1):
        fallen_silent(agent, seconds=-LEASE, concurrency_key=key)
    return crowd(agent, 2, concurrency_key=key)[0]


def running(agent: Agent) -> int:
    return Run.objects.filter(agent=agent, status="running").count()


@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("kind", ["environment", "agent"])
def test_a_cap_that_was_reached_while_a_claim_was_searching_is_kept(kind: str, most: int) -> None:
    paused = factories.agent()
    agent = factories.agent(None if kind == "environment" else paused.environment)
    Agent.objects.filter(pk=paused.pk).update(paused=True)
    crowd(paused, 1)  # a capped environment comes after the one of this run
    agent = cap(kind, agent, most)
    first = line_up(agent, most)
    with (
        ThreadPoolExecutor(1) as thread,
        # Circuits are read when the environments, or agents, that are full are known.
        locked("LOCK TABLE model_circuits IN ACCESS EXCLUSIVE MODE"),
    ):
        claimed = thread.submit(claim_elsewhere)
        until(lambda: waiting_for_locks() >= 1, what="the claim before the lock")
        assert somebody_else_claims(first)
    assert claimed.result() is None
    assert running(agent) == most


def test_a_cap_of_a_key_that_was_reached_while_a_claim_was_searching_is_kept() -> None:
    """No lock stops a claim here, but its way to the key is long, and shows that it has begun."""
    most = 2
    agent = cap("key", factories.agent(), most)
    first = line_up(agent, most)
    slow = cap("agent", factories.agent(agent.environment), 2 * BUSY)
    now = timezone.now()
    lease = {"worker": "w", "fence": 1, "lease_expires_at": now + timedelta(seconds=LEASE)}
    crowd(slow, BUSY, status="running", claimed_at=now, **lease)
    ahead = crowd(slow, AHEAD, priority=1)
    with ThreadPoolExecutor(1) as thread, locked_runs(*ahead):
        claimed = thread.submit(claim_elsewhere)
        while not deciding() and not claimed.done():
            pass
        somebody_else_claims(first)
        claimed.result(timeout=20)
    assert running(agent) == most


def deciding() -> bool:
    """Somebody holds the lock of a cap."""
    with connection.cursor() as cursor:
        cursor.execute(_DECIDING)
        return bool(cursor.fetchone()[0])


@pytest.mark.parametrize("kind", ["environment", "agent", "key"])
def test_a_claim_that_only_a_decision_of_somebody_else_held_up_says_so(kind: str) -> None:
    agent = cap(kind, factories.agent(), 2)
    line_up(agent, 1)
    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            assert queue.claim("soon", LEASE)
            with pytest.raises(queue.Contended):
                thread.submit(claim_elsewhere).result(timeout=20)
        assert thread.submit(claim_elsewhere).result(timeout=20)
