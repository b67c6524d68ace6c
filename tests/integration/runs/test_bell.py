"""Bells for runs that may start: because something has changed, or because nobody came."""

from datetime import timedelta

import pytest
import redis
from django.db.models import F

from agents import changes
from runs import jobs, queue, services
from runs.models import Run, Worker
from station.accounts import environments, pausing
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_a_pause_or_a_cap_held_up_is_rung_for_once_it_is_lifted(rung: list[None]) -> None:
    agent = changes.update(factories.OPERATOR, factories.agent(), paused=True)
    Worker.objects.create(name="w", host="h", pid=1, slots=2)
    for _ in range(3):
        factories.run(agent)
    rung.clear()
    changes.update(factories.OPERATOR, agent, max_running=5)
    assert len(rung) == 0, "it is paused still"
    changes.update(factories.OPERATOR, agent, paused=False)
    assert len(rung) == 2, "one for each free slot"
    rung.clear()
    environments.update(factories.OPERATOR, agent.environment_id, max_running=5)
    assert len(rung) == 2


def test_the_end_of_a_pause_of_the_whole_queue_rings(rung: list[None]) -> None:
    Worker.objects.create(name="w", host="h", pid=1, slots=2)
    run = factories.run()
    pausing.pause_queue(factories.OPERATOR)
    assert queue.why_queued(Run.objects.get(pk=run.pk)).startswith("The whole queue is paused, by ")
    rung.clear()
    pausing.resume_queue(factories.OPERATOR)
    assert len(rung) == 1


def test_where_nothing_waits_or_nobody_is_free_nothing_rings(rung: list[None]) -> None:
    agent = factories.agent()
    Worker.objects.create(name="w", host="h", pid=1, slots=2)
    changes.update(factories.OPERATOR, agent, description="New.")
    factories.run(agent)
    Worker.objects.update(busy=2)
    rung.clear()
    changes.update(factories.OPERATOR, agent, description="Newer.")
    assert rung == []


def test_bells_that_nobody_hears_do_not_pile_up(rung: list[None], broker: redis.Redis) -> None:
    Worker.objects.create(name="w", host="h", pid=1, slots=3)
    for _ in range(5):
        factories.run()
    Run.objects.update(available_at=F("available_at") - timedelta(seconds=60))
    rung.clear()
    jobs.ring_for_unheard()
    assert len(rung) == 3, "one for each free slot"
    broker.lpush("station", *["a bell"] * 2)
    rung.clear()
    jobs.ring_for_unheard()
    assert len(rung) == 1, "two are in the broker still"


def test_an_agent_above_its_lowered_cap_takes_no_bells_from_another(rung: list[None]) -> None:
    crowded = factories.agent()
    for _ in range(3):
        factories.run(crowded)
        assert queue.claim("w", 60.0) is not None
    changes.update(factories.OPERATOR, crowded, max_running=1)
    other = factories.agent(crowded.environment)
    for agent in (crowded, other, other):
        factories.run(agent)
    Worker.objects.create(name="w", host="h", pid=1, slots=9)
    Run.objects.update(available_at=F("available_at") - timedelta(seconds=60))
    rung.clear()
    jobs.ring_for_unheard()
    assert len(rung) == 2


@pytest.mark.parametrize("full", ["environment", "agent", "key"])
def test_what_a_cap_holds_up_is_not_rung_for(rung: list[None], full: str) -> None:
    agent = factories.agent()
    key = {"key": "a"} if full == "key" else {}
    match full:
        case "environment":
            environments.update(factories.OPERATOR, agent.environment_id, max_running=1)
        case "agent":
            changes.update(factories.OPERATOR, agent, max_running=1)
        case _:
            agent = changes.update(factories.OPERATOR, agent, concurrency_key="key")
    for _ in range(5):
        request = services.Request(input="x", data=key)
        services.submit(factories.OPERATOR, agent, request)
    Worker.objects.create(name="w", host="h", pid=1, slots=9)
    Run.objects.update(available_at=F("available_at") - timedelta(seconds=60), behind=False)
    rung.clear()
    jobs.ring_for_unheard()
    assert len(rung) == (5 if full == "key" else 1), "keys are looked at only once one is running"
    assert queue.claim("w", 60.0) is not None
    rung.clear()
    jobs.ring_for_unheard()
    assert rung == []
