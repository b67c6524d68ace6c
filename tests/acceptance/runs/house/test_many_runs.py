"""Two workers and a queue: every run is carried, once."""

import time
from collections import Counter
from datetime import timedelta

import pytest

from runs import services
from runs.entries import Kind
from runs.models import Run, RunEvent
from tests import factories
from tests.acceptance.runs.stage import Stage, events
from tests.processes import Process, until

pytestmark = pytest.mark.django_db(transaction=True)
MANY = 1000
SLOTS = 8
HEARD_WITHOUT_A_KEEPER = timedelta(seconds=2)
"""The keeper rings for runs that nobody came for in this time."""


def test_a_worker_is_called_so_by_ps(house: list[Process]) -> None:
    assert {process.title for process in house} == {"station worker"}


def test_the_second_worker_is_not_idle_while_the_first_is_full(
    house: list[Process], stage: Stage
) -> None:
    runs = [stage.submit("think-long", tools=()) for _ in range(SLOTS + 4)]
    running = Run.objects.filter(environment=stage.environment, status="running")
    until(lambda: running.count() == SLOTS, within=30, what="a run in every slot")
    shares = Counter(running.values_list("worker", flat=True))
    assert sorted(shares.values()) == [SLOTS // 2, SLOTS // 2]
    first_ones = list(running.all())
    waits = [events(run, Kind.CLAIMED)[0].at - run.created_at for run in first_ones]
    assert max(waits) < HEARD_WITHOUT_A_KEEPER
    for run in first_ones:
        services.cancel(factories.OPERATOR, run)
    until(
        lambda: running.count() == len(runs) - SLOTS, within=30, what="the others, in their place"
    )
    services.cancel_many(factories.OPERATOR, Run.objects.filter(environment=stage.environment))
    for run in runs:
        stage.ended(run)


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
