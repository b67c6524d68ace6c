"""Runs of one concurrency key queue in a lane; claims meet the first of it only."""

from collections.abc import Callable

import pytest
from django.db import connection

from agents import changes
from agents.models import Agent
from runs import jobs, lanes, queue, services, transitions
from runs.models import Run
from runs.moves import Moved
from runs.states import Status
from station.core.ids import uuid7
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def agent() -> Agent:
    return changes.update(factories.OPERATOR, factories.agent(), concurrency_key="customer")


def submit(agent: Agent, customer: str = "a", priority: int = 0) -> Run:
    request = services.Request(input="x", data={"customer": customer}, priority=priority)
    return services.submit(factories.OPERATOR, agent, request)


def claim() -> Moved:
    moved = queue.claim("w", 60.0)
    assert moved is not None
    return moved


def in_front() -> list[int]:
    rows = Run.objects.filter(status="queued", behind=False)
    return list(rows.order_by("-priority", "id").values_list("pk", flat=True))


def test_only_as_many_runs_of_a_key_are_in_front_as_its_cap_admits(agent: Agent) -> None:
    first, *_ = [submit(agent) for _ in range(4)]
    other = submit(agent, "b")
    assert in_front() == [first.pk, other.pk]


def leavings() -> tuple[Callable[[Moved], None], ...]:
    def finish(moved: Moved) -> None:
        assert transitions.finish(moved.run_id, moved.fence, Status.SUCCEEDED)

    def wait(moved: Moved) -> None:
        assert transitions.wait(moved.run_id, moved.fence, reason="doubt", details={}, expires=9)

    def put_off(moved: Moved) -> None:
        assert transitions.hand_back(moved.run_id, moved.fence, reason="drained", delay=600)

    def give_up(moved: Moved) -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE agent_runs SET lease_expires_at = now() - interval '1 s'")
        assert transitions.fail_expired(1, "no")

    return (finish, wait, put_off, give_up)


@pytest.mark.parametrize("leave", leavings(), ids=lambda leave: leave.__name__)
def test_when_one_has_gone_the_next_comes_to_the_front(
    agent: Agent, leave: Callable[[Moved], None]
) -> None:
    submit(agent)
    second, third = submit(agent), submit(agent)
    moved = claim()
    assert in_front() == []
    leave(moved)
    assert second.pk in in_front()
    assert third.pk not in in_front()
    assert claim().run_id == second.pk


def test_one_that_goes_back_into_the_queue_keeps_its_place(agent: Agent) -> None:
    first, _ = submit(agent), submit(agent)
    moved = claim()
    assert transitions.hand_back(moved.run_id, moved.fence, reason="drained")
    assert in_front() == [first.pk]


def test_cancelling_the_first_in_line_brings_the_next_to_the_front(agent: Agent) -> None:
    first, second, third = [submit(agent) for _ in range(3)]
    services.cancel(factories.OPERATOR, second)
    assert in_front() == [first.pk]
    services.cancel(factories.OPERATOR, first)
    assert in_front() == [third.pk]


def test_a_more_urgent_run_does_not_wait_for_the_first_in_line(agent: Agent) -> None:
    calm, _ = submit(agent), submit(agent)
    urgent = submit(agent, priority=5)
    assert in_front() == [urgent.pk, calm.pk]
    assert claim().run_id == urgent.pk
    assert queue.claim("w", 60.0) is None


def test_a_crowd_that_is_more_urgent_than_one_in_front_does_not_come_to_the_front(
    agent: Agent,
) -> None:
    calm = submit(agent)
    first, second, third = [submit(agent, priority=1) for _ in range(3)]
    assert in_front() == [first.pk, calm.pk]
    moved = claim()
    assert moved.run_id == first.pk
    transitions.finish(moved.run_id, moved.fence, Status.SUCCEEDED)
    assert in_front() == [second.pk, calm.pk], "nobody less urgent overtakes"
    services.cancel(factories.OPERATOR, second)
    services.cancel(factories.OPERATOR, third)
    assert claim().run_id == calm.pk


def test_who_finds_its_change_committed_calls_the_next_one_forward(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second = submit(agent), submit(agent)
    moved, event_id = claim(), uuid7()

    def finish() -> Moved | None:
        return transitions.finish(moved.run_id, moved.fence, Status.SUCCEEDED, event_id=event_id)

    with monkeypatch.context() as connection_lost:
        connection_lost.setattr(lanes, "advance", list)
        assert finish()
    assert in_front() == []
    assert finish()
    assert in_front() == [second.pk]


def test_a_higher_cap_brings_more_to_the_front(agent: Agent) -> None:
    submitted = [submit(agent).pk for _ in range(5)]
    changes.update(factories.OPERATOR, agent, max_running_per_key=3)
    assert in_front() == submitted[:3]


def test_the_keeper_calls_forward_what_was_left_behind_by_mistake(agent: Agent) -> None:
    lost = {submit(agent, customer).pk for customer in "abc" for _ in range(2)}
    Run.objects.update(behind=True)
    assert queue.claim("w", 60.0) is None
    jobs.advance_lanes()
    assert len(in_front()) == 3
    assert set(in_front()) < lost
    assert lanes.advance_all() == 0


def test_a_crowd_of_one_customer_does_not_hold_up_another(agent: Agent) -> None:
    whale = submit(agent)
    claim()
    copies = [Run(**{**_fields(whale), "behind": True}) for _ in range(900)]
    Run.objects.bulk_create(copies)
    other = submit(agent, "b")
    assert in_front() == [other.pk]
    assert claim().run_id == other.pk


def _fields(run: Run) -> dict[str, object]:
    names = ("environment", "agent", "version", "input", "data", "timeout", "concurrency_key")
    return {name: getattr(run, name) for name in names} | {"submitted_by": "tests"}
