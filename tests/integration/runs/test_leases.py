"""The heartbeat against a database that does not answer as it should."""

import contextlib
import time
from collections.abc import Iterator

import psycopg
import pytest

from runs import queue
from runs.errors import LeaseLost
from runs.leases import Leases, WorkerReport
from runs.models import Run
from tests import factories
from tests.processes import test_database_url, until

pytestmark = pytest.mark.django_db(transaction=True)
LEASE = 2.0


class Heartbeat:
    """A worker's leases on freshly claimed runs, and what it was told of them."""

    def __init__(self, runs: int) -> None:
        agent = factories.agent()
        self.lost: set[int] = set()
        self.cancelled: set[int] = set()
        self.leases = Leases(
            url=test_database_url(),
            lease=LEASE,
            heartbeat=0.2,
            report=lambda: WorkerReport(
                name="w", host="h", pid=1, slots=9, busy=runs, draining=False
            ),
            on_lost=lambda run_id, fence: self.lost.add(run_id),
            on_cancel=lambda run_id, fence: self.cancelled.add(run_id),
        )
        self.runs: list[int] = []
        for _ in range(runs):
            factories.run(agent)
            claimed = time.monotonic()
            moved = queue.claim("w", LEASE)
            assert moved is not None
            self.leases.add(moved.run_id, moved.fence, claimed)
            self.runs.append(moved.run_id)
        self.until = time.monotonic() + LEASE

    def holds(self, run_id: int) -> bool:
        try:
            self.leases.check(run_id, 1)
        except LeaseLost:
            return False
        return True


@contextlib.contextmanager
def beating(runs: int) -> Iterator[Heartbeat]:
    heartbeat = Heartbeat(runs)
    heartbeat.leases.start()
    try:
        yield heartbeat
    finally:
        heartbeat.leases.stop()


@contextlib.contextmanager
def locked(statement: str) -> Iterator[None]:
    """Hold the locks of ``statement``."""
    with psycopg.connect(test_database_url()) as connection:
        connection.execute(statement.encode())
        yield
        connection.rollback()


def test_a_run_whose_row_is_locked_does_not_cost_the_others_their_leases() -> None:
    with beating(runs=3) as heartbeat:
        stuck, *others = heartbeat.runs
        with locked(f"SELECT FROM agent_runs WHERE id = {stuck} FOR UPDATE"):
            until(lambda: heartbeat.lost, within=2 * LEASE)
            until(lambda: time.monotonic() > heartbeat.until + LEASE / 2)
            assert heartbeat.lost == {stuck}
            assert all(map(heartbeat.holds, others))


def test_a_row_that_is_locked_for_a_moment_is_renewed_afterwards() -> None:
    with beating(runs=1) as heartbeat:
        (run_id,) = heartbeat.runs
        with locked(f"SELECT FROM agent_runs WHERE id = {run_id} FOR UPDATE"):
            until(lambda: time.monotonic() > heartbeat.until - LEASE / 2)
        until(lambda: time.monotonic() > heartbeat.until + LEASE / 2)
        assert heartbeat.holds(run_id)
        assert not heartbeat.lost


def test_a_heartbeat_that_hangs_gives_its_runs_up_before_their_leases_end() -> None:
    with beating(runs=2) as heartbeat:
        until(lambda: queue.live_workers(within=1).exists())
        with locked("LOCK TABLE run_workers IN ACCESS EXCLUSIVE MODE"):
            until(lambda: heartbeat.lost == set(heartbeat.runs), within=LEASE)
            assert Run.objects.filter(lease_expires_at__lt=_now()).count() == 0


def test_a_cancellation_is_seen_at_once_when_the_heartbeat_is_nudged() -> None:
    with beating(runs=2) as heartbeat:
        first, second = heartbeat.runs
        Run.objects.filter(pk=first).update(cancel_requested_at=_now())
        heartbeat.leases.nudge()
        until(lambda: heartbeat.cancelled == {first}, within=1)
        assert heartbeat.holds(second)


def _now() -> str:
    with psycopg.connect(test_database_url()) as connection:
        row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return str(row[0])
