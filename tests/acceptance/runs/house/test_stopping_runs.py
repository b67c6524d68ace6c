"""Cancelling a run, and running out of time, in the middle of what it does."""

import time
from collections.abc import Callable

import psutil
import pytest
import redis

from runs import bus, services
from runs.entries import Kind
from runs.models import Run
from tests import factories, stack
from tests.acceptance.runs.stage import Stage, events, status
from tests.processes import Process, until

pytestmark = pytest.mark.django_db(transaction=True)
AT_ONCE = 10.0
"""Seconds: what is stopped here would go on for a minute."""
TIMEOUT = 2.0


def tool_servers(workers: list[Process], stage: Stage) -> list[int]:
    """The stage's tool servers that run now."""
    found = []
    for worker in workers:
        for pid in worker.children:
            try:
                if str(stage.sink) in psutil.Process(pid).cmdline():
                    found.append(pid)
            except psutil.NoSuchProcess:
                continue
    return found


def asking(stage: Stage, run: Run) -> Callable[[], object]:
    return lambda: stage.asked(run)


def calling(stage: Stage, run: Run) -> Callable[[], object]:
    return lambda: events(run, Kind.TOOL_CALLED)


@pytest.mark.parametrize(("script", "phase"), [("think-long", asking), ("look-long", calling)])
def test_a_cancelled_run_ends_at_once_and_so_does_its_tool_server(
    house: list[Process],
    stage: Stage,
    script: str,
    phase: Callable[[Stage, Run], Callable[[], object]],
) -> None:
    run = stage.submit(script)
    until(phase(stage, run))
    begun = time.monotonic()
    services.cancel(factories.OPERATOR, run)
    ended = stage.ended(run, within=AT_ONCE)
    assert time.monotonic() - begun < AT_ONCE
    assert ended.status == "cancelled"
    assert [event.payload["status"] for event in events(run, Kind.FINISHED)] == ["cancelled"]
    if script == "look-long":
        until(lambda: not tool_servers(house, stage), within=AT_ONCE, what="its end")


@pytest.mark.parametrize("script", ["think-long", "look-long"])
def test_a_run_out_of_time_ends_then_and_so_does_its_tool_server(
    house: list[Process], stage: Stage, script: str
) -> None:
    run = stage.submit(script, timeout=TIMEOUT)
    ended = stage.ended(run)
    assert (ended.status, ended.error_code) == ("timed_out", "timeout")
    assert TIMEOUT <= ended.running_ms / 1000 < TIMEOUT + AT_ONCE
    if script == "look-long":
        until(lambda: not tool_servers(house, stage), within=AT_ONCE, what="its end")


def test_a_message_on_valkey_alone_cancels_nothing(house: list[Process], stage: Stage) -> None:
    run = stage.submit("think", tools=())
    until(asking(stage, run))
    with redis.Redis.from_url(stack.services.redis_url) as client:
        assert client.publish(bus.cancellations(), str(run.pk)) >= 2
    assert status(stage.ended(run)) == "succeeded"


def test_news_stays_within_one_database_of_a_shared_valkey(
    house: list[Process], stage: Stage
) -> None:
    run = stage.submit("think", tools=())
    number = stack.services.redis_url.rpartition("/")[2]
    with redis.Redis.from_url(stack.services.redis_url) as client:
        heard = client.pubsub()
        heard.subscribe(f"station:{number}:run:{run.pk}", f"station:run:{run.pk}")
        stage.ended(run)
        news = [m["channel"] for m in iter(lambda: heard.get_message(timeout=1), None)]
        heard.close()
    assert news.count(f"station:{number}:run:{run.pk}".encode()) >= 3
    assert news.count(f"station:run:{run.pk}".encode()) == 1  # the subscription
