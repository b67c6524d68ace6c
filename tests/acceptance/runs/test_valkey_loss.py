"""Valkey forgets everything, restarts, goes away: the rows are the queue."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from kombu.connection import Connection

from runs import services, tasks
from runs.entries import Kind
from runs.models import Run
from station.embedded.valkey import Valkey
from tests import factories, stack
from tests.acceptance.runs.stage import Stage, events
from tests.processes import Crew, Process, until

pytestmark = pytest.mark.django_db(transaction=True)
SLOTS = 2


@dataclass(frozen=True, kw_only=True)
class House:
    """A worker and a keeper whose Valkey is not the one this process rings at."""

    valkey: Valkey
    worker: Process

    def ring(self, times: int) -> None:
        with Connection(self.valkey.url) as connection:  # type: ignore[no-untyped-call]
            for _ in range(times):
                tasks.serve.apply_async(connection=connection)

    def bells(self) -> int:
        with redis.Redis.from_url(self.valkey.url) as client:
            return int(client.llen("station"))

    def flush(self) -> None:
        with redis.Redis.from_url(self.valkey.url) as client:
            client.flushall()


@pytest.fixture(scope="module")
def apart(
    database: None, config: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    with (
        Valkey(stack.new_folder()) as valkey,
        Crew(tmp_path_factory.mktemp("valkey"), config, redis_url=valkey.url) as crew,
    ):
        crew.start("keeper")
        yield House(valkey=valkey, worker=crew.worker(execution_queue={"workers": SLOTS}))


def full_house(apart: House, stage: Stage) -> list[Run]:
    """Every slot taken by a thinking run, and more runs queued behind, each with its bell."""
    runs = [stage.submit("think", tools=()) for _ in range(SLOTS)]
    apart.ring(SLOTS)
    until(lambda: all(map(stage.asked, runs)), what="the questions")
    runs += [stage.submit("answer", tools=()) for _ in range(10)]
    apart.ring(10)
    return runs


def test_after_a_flush_every_queued_run_is_carried(apart: House, stage: Stage) -> None:
    runs = full_house(apart, stage)
    until(apart.bells, what="a bell nobody took yet")
    apart.flush()
    assert not apart.bells()
    later = [stage.submit("answer", tools=()) for _ in range(4)]
    for run in runs + later:
        assert stage.ended(run).status == "succeeded"
        assert len(events(run, Kind.CLAIMED)) == 1


def test_after_a_restart_every_queued_run_is_carried(apart: House, stage: Stage) -> None:
    runs = full_house(apart, stage)
    apart.valkey.kill()
    runs += [stage.submit("answer", tools=()) for _ in range(4)]
    apart.valkey.start()
    for run in runs:
        assert stage.ended(run, within=60).status == "succeeded"
        assert len(events(run, Kind.CLAIMED)) == 1
    # And the bells, not only slots that come free, are heard again.
    one_more = stage.submit("answer", tools=())
    assert stage.ended(one_more, within=60).status == "succeeded"


def test_without_valkey_a_run_goes_on_and_can_be_cancelled(apart: House, stage: Stage) -> None:
    thinking, cancelled = stage.submit("think", tools=()), stage.submit("think-long", tools=())
    apart.ring(2)
    until(lambda: stage.asked(thinking) and stage.asked(cancelled), what="the questions")
    apart.valkey.stop()
    try:
        begun = time.monotonic()
        services.cancel(factories.OPERATOR, cancelled)
        assert stage.ended(cancelled, within=3).status == "cancelled"
        assert time.monotonic() - begun < 3
        assert stage.ended(thinking).status == "succeeded"
    finally:
        apart.valkey.start()
