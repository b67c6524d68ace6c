"""A queue of limited size: who is refused, by how much it may be passed, what always goes back."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from agents.models import Agent
from runs import queue, services, transitions
from runs.errors import QueueFull
from runs.models import Run
from station import config
from tests import factories
from tests.integration.runs.crowding import crowd
from tests.integration.runs.doubting import doubt

pytestmark = pytest.mark.django_db(transaction=True)
LIMIT = 40
SUBMITTERS = 4
LEASE = 60.0


class RoomOfEachThread(threading.local):
    """Has every thread count for itself, as processes do."""

    def __init__(self) -> None:
        self.free, self.taken, self.until = 0, 0, 0.0


@pytest.fixture(autouse=True)
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of at most ``LIMIT`` runs, which nobody has counted yet."""
    whole = config.current()
    settings = whole.execution_queue.model_copy(update={"buffer_size": LIMIT})
    small = whole.model_copy(update={"execution_queue": settings})
    monkeypatch.setattr(queue, "current", lambda: small)
    monkeypatch.setattr(queue, "_room", queue._Room())


def fill(agent: Agent) -> int:
    """Submit until the queue is full; how many were accepted."""
    for accepted in range(10 * LIMIT):
        try:
            factories.run(agent)
        except QueueFull:
            return accepted
    raise AssertionError("the queue is never full")


def queued() -> int:
    return Run.objects.filter(status="queued").count()


@pytest.mark.parametrize("there", [0, LIMIT - 1, LIMIT])
def test_one_submitter_fills_the_queue_to_its_limit_and_not_by_one_more(there: int) -> None:
    agent = factories.agent()
    crowd(agent, there)
    assert fill(agent) == LIMIT - there
    assert queued() == LIMIT


@pytest.mark.parametrize("processes", [1, SUBMITTERS])
def test_submitters_at_once_pass_the_limit_by_a_part_of_it_each_at_most(
    processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may use a tenth of what it saw free, and the place it looked for."""
    if processes > 1:
        monkeypatch.setattr(queue, "_room", RoomOfEachThread())
    agents = [factories.agent() for _ in range(SUBMITTERS)]
    together = threading.Barrier(SUBMITTERS)

    def submit(agent: Agent) -> int:
        together.wait(timeout=20)
        try:
            return fill(agent)
        finally:
            connection.close()

    with ThreadPoolExecutor(SUBMITTERS) as pool:
        accepted = sum(pool.map(submit, agents))
    assert queued() == accepted
    assert LIMIT <= accepted <= LIMIT + SUBMITTERS * (1 + LIMIT // 10)


def test_a_run_that_comes_back_finds_a_place_in_a_full_queue() -> None:
    agent = factories.agent()
    crowd(agent, 3)
    handed_back, retried = queue.claim("w", LEASE), queue.claim("w", LEASE)
    assert handed_back
    assert retried
    waiting = doubt([])
    fill(agent)
    assert transitions.hand_back(handed_back.run_id, handed_back.fence, reason="drained")
    assert transitions.retry_later(
        retried.run_id, retried.fence, error=("x", "y"), retry=1, at_most=1, delay=0
    )
    assert transitions.resume(waiting.pk, waiting.last_seq, [{"by": "alice"}])
    assert queued() == LIMIT + 3


def test_a_person_s_retry_is_a_submission_like_any_other() -> None:
    agent = factories.agent()
    run = services.cancel(factories.OPERATOR, factories.run(agent))
    fill(agent)
    with pytest.raises(QueueFull):
        services.retry(factories.OPERATOR, run)
    assert queued() == LIMIT
