"""The heartbeat against a database that does not answer as it should."""

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from runs import queue
from runs.errors import LeaseLost
from runs.leases import Leases, WorkerReport
from runs.models import Run
from tests import factories
from tests.integration.runs.locking import locked, locked_runs
from tests.processes import test_database_url, until

pytestmark = pytest.mark.django_db(transaction=True)
LONG = 600.0
"""A lease, or a pause, that does not end while a test lasts."""


class Heartbeat:
    """A worker's leases on freshly claimed runs, and what it was told of them."""

    def __init__(self, runs: int, *, lease: float, heartbeat: float = 0.2) -> None:
        agent = factories.agent()
        self.lost: dict[int, datetime] = {}
        self.cancelled: set[int] = set()
        self.leases = Leases(
            url=test_database_url(),
            lease=lease,
            heartbeat=heartbeat,
            report=lambda: WorkerReport(
                name="w", host="h", pid=1, slots=9, busy=runs, draining=False
            ),
            on_lost=self._lose,
            on_cancel=lambda run_id, fence: self.cancelled.add(run_id),
        )
        self.runs: list[int] = []
        for _ in range(runs):
            factories.run(agent)
            claimed = time.monotonic()
            moved = queue.claim("w", lease)
            assert moved is not None
            self.leases.add(moved.run_id, moved.fence, claimed)
            self.runs.append(moved.run_id)
        self.until = time.monotonic() + lease
        self.first = self.expiries()

    def _lose(self, run_id: int, fence: int) -> None:
        self.lost.setdefault(run_id, datetime.now(UTC))

    def holds(self, run_id: int) -> bool:
        try:
            self.leases.check(run_id, 1)
        except LeaseLost:
            return False
        return True

    def expiries(self) -> dict[int, datetime]:
        """When the leases of the runs end, as the database says."""
        rows = Run.objects.filter(pk__in=self.runs, lease_expires_at__isnull=False)
        return {row.pk: row.lease_expires_at for row in rows if row.lease_expires_at}

    def renewed(self) -> set[int]:
        """The runs whose leases end later than when they were claimed."""
        now = self.expiries()
        return {run_id for run_id, first in self.first.items() if now[run_id] > first}


@contextlib.contextmanager
def beating(runs: int, *, lease: float, heartbeat: float = 0.2) -> Iterator[Heartbeat]:
    heart = Heartbeat(runs, lease=lease, heartbeat=heartbeat)
    heart.leases.start()
    try:
        yield heart
    finally:
        heart.leases.stop()


def test_a_run_whose_row_is_locked_does_not_cost_the_others_their_leases() -> None:
    with beating(runs=3, lease=3) as heartbeat:
        stuck, *others = heartbeat.runs
        with locked_runs(stuck):
            until(lambda: heartbeat.lost, what="its end")
            until(lambda: time.monotonic() > heartbeat.until, what="the end of the first leases")
            assert set(heartbeat.lost) == {stuck}
            assert all(map(heartbeat.holds, others))


def test_a_row_that_is_locked_for_a_moment_is_renewed_afterwards() -> None:
    heartbeat = Heartbeat(2, lease=LONG)
    stuck, other = heartbeat.runs
    with psycopg.connect(test_database_url(), autocommit=True) as own:
        own.execute("SET lock_timeout = '2s'")
        with locked_runs(stuck):
            assert not heartbeat.leases._renew(own)
            assert heartbeat.renewed() == {other}
        assert heartbeat.leases._renew(own)
    assert heartbeat.renewed() == {stuck, other}
    assert not heartbeat.lost


def test_a_heartbeat_that_hangs_gives_its_runs_up_before_their_leases_end() -> None:
    with beating(runs=2, lease=4) as heartbeat:
        until(lambda: heartbeat.renewed() == set(heartbeat.runs))
        with locked("LOCK TABLE run_workers IN ACCESS EXCLUSIVE MODE"):
            until(lambda: set(heartbeat.lost) == set(heartbeat.runs))
            ends = heartbeat.expiries()
            assert all(at < ends[run_id] for run_id, at in heartbeat.lost.items())


def test_a_cancellation_is_seen_at_once_when_the_heartbeat_is_nudged() -> None:
    with beating(runs=2, lease=LONG, heartbeat=LONG) as heartbeat:
        first, second = heartbeat.runs
        until(lambda: heartbeat.renewed() == {first, second}, what="the first beat")
        Run.objects.filter(pk=first).update(cancel_requested_at=datetime.now(UTC))
        heartbeat.leases.nudge()
        until(lambda: heartbeat.cancelled == {first}, within=20)
        assert heartbeat.holds(second)
