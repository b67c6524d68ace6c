"""Two workers and a queue: every run is carried, once."""

import time
from collections import Counter

import pytest

from runs.entries import Kind
from runs.models import Run, RunEvent
from tests.acceptance.runs.stage import THINKING, Stage, events
from tests.processes import Process, until

pytestmark = pytest.mark.django_db(transaction=True)
MANY = 1000


def test_a_worker_is_called_so_by_ps(house: list[Process]) -> None:
    assert {process.title for process in house} == {"station worker"}


def test_the_second_worker_is_not_idle_while_the_first_is_full(
    house: list[Process], stage: Stage
) -> None:
    runs = [stage.submit("think", tools=()) for _ in range(12)]
    running = Run.objects.filter(status="running")
    until(lambda: running.count() == 8, within=THINKING, what="eight runs at once")
    shares = Counter(running.values_list("worker", flat=True))
    assert sorted(shares.values()) == [4, 4]
    for run in runs:
        stage.ended(run)
    waits = sorted(
        (events(run, Kind.CLAIMED)[0].at - run.created_at).total_seconds() for run in runs
    )
    assert waits[7] < THINKING / 2
    assert waits[-1] < 2 * THINKING


def test_of_a_thousand_runs_none_is_lost_and_none_runs_twice(
    house: list[Process], stage: Stage
) -> None:
    asked = len(stage.model.requests)
    runs = {stage.submit("answer", tools=()).pk for _ in range(MANY)}
    left = Run.objects.filter(pk__in=runs).exclude(status="succeeded")
    begun = time.monotonic()
    until(lambda: not left.exists(), within=120, what="a thousand answers")
    assert time.monotonic() - begun < 120
    claims = RunEvent.objects.filter(kind=Kind.CLAIMED.value, run__in=runs)
    assert sorted(claims.values_list("run_id", flat=True)) == sorted(runs)
    ends = RunEvent.objects.filter(kind=Kind.FINISHED.value, run__in=runs)
    assert sorted(ends.values_list("run_id", flat=True)) == sorted(runs)
    assert len(stage.model.requests) - asked == MANY
    shares = Counter(claim.payload["worker"] for claim in claims)
    assert len(shares) == 2
    assert min(shares.values()) > MANY / 10
