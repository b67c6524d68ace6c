"""Caps, fairness, backpressure and retries against the real database."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from agents import changes
from agents.models import Agent
from runs import queue, services, transitions
from runs.errors import NotFinished, QueueFull
from runs.models import Run
from runs.moves import Moved
from runs.states import Status
from station import config
from station.accounts import environments
from station.core.errors import InvalidInput
from station.embedded.drills.caps import most_at_once
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
LEASE = 60.0
HELD = (0.002, 0.01)
"""Seconds a run is held, at least and at most."""


def claim(recent: tuple[int, ...] = ()) -> Moved | None:
    """A claim that tries again while others decide, as a worker does."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return queue.claim("w", LEASE, recent)
        except queue.Contended:
            assert time.monotonic() < deadline
            threading.Event().wait(random.uniform(0.001, 0.004))  # noqa: S311 - jitter


def finish(moved: Moved) -> None:
    assert transitions.finish(moved.run_id, moved.fence, Status.SUCCEEDED)


def cap(kind: str, agent: Agent, most: int | None) -> Agent:
    """What an operator does: have at most ``most`` runs of the environment, agent or key run."""
    if kind == "environment":
        environments.update(factories.OPERATOR, agent.environment_id, max_running=most)
        return agent
    if kind == "agent":
        return changes.update(factories.OPERATOR, agent, max_running=most)
    return changes.update(
        factories.OPERATOR, agent, concurrency_key="customer", max_running_per_key=most
    )


def submit(agent: Agent, customer: str = "a") -> Run:
    request = services.Request(input="x", data={"customer": customer})
    return services.submit(factories.OPERATOR, agent, request)


@pytest.mark.parametrize(
    ("kind", "most"), [("environment", 3), ("agent", 3), ("key", 1), ("key", 3)]
)
def test_sixteen_claimers_never_exceed_a_cap_and_leave_nothing_behind(kind: str, most: int) -> None:
    total = 60
    agent = cap(kind, factories.agent(), most)
    for _ in range(total):
        submit(agent)
    first_ones, cap_is_full = threading.Semaphore(most), threading.Barrier(most)
    deadline = time.monotonic() + 60

    def worker() -> None:
        try:
            while Run.objects.filter(status="queued").exists():
                assert time.monotonic() < deadline
                moved = claim()
                if moved is None:
                    continue
                if first_ones.acquire(blocking=False):
                    cap_is_full.wait(timeout=30)
                threading.Event().wait(random.uniform(*HELD))  # noqa: S311 - a pace
                finish(moved)
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(worker) for _ in range(16)]:
            future.result()
    rows = Run.objects.filter(status="succeeded")
    assert rows.count() == total
    spans = rows.values_list("claimed_at", "finished_at")
    assert most_at_once(spans) == most  # type: ignore[arg-type]  # both are set by now


@pytest.mark.parametrize("kind", ["environment", "agent", "key"])
def test_a_cap_that_an_operator_changes_holds_from_the_next_claim_on(kind: str) -> None:
    agent = cap(kind, factories.agent(), 3)
    for _ in range(12):
        submit(agent)
    running = [moved for _ in range(4) if (moved := claim()) is not None]
    assert len(running) == 3
    agent = cap(kind, agent, 2)
    assert Run.objects.filter(status="running").count() == 3, "lowering it stops nothing"
    finish(running.pop())
    assert claim() is None
    finish(running.pop())
    assert claim() is not None
    assert claim() is None
    cap(kind, agent, 4)
    assert [claim() is not None for _ in range(3)] == [True, True, False]


def test_a_full_agent_does_not_hold_up_its_environment() -> None:
    busy = factories.agent()
    busy.max_running = 1
    busy.save()
    other = factories.agent(busy.environment)
    for _ in range(300):
        factories.run(busy)
    last = factories.run(other)
    first, second = claim(), claim()
    assert first is not None
    assert second is not None
    assert second.run_id == last.pk
    assert claim() is None
    finish(first)
    assert claim() is not None


def test_runs_of_different_keys_run_side_by_side_and_those_of_one_key_in_turn() -> None:
    agent = factories.agent()
    agent.concurrency_key = "customer.id"
    agent.save()
    for customer in ["a"] * 250 + ["b", "c"]:
        services.submit(
            factories.OPERATOR,
            agent,
            services.Request(input="x", data={"customer": {"id": customer}}),
        )
    taken = [moved.run_id for _ in range(4) if (moved := claim()) is not None]
    keys = Counter(Run.objects.filter(pk__in=taken).values_list("concurrency_key", flat=True))
    assert keys == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("data", [{}, {"customer": None}, {"customer": ["a"]}, {"customer": ""}])
def test_a_run_without_its_concurrency_key_is_refused(data: dict[str, object]) -> None:
    agent = factories.agent()
    agent.concurrency_key = "customer"
    agent.save()
    with pytest.raises(InvalidInput, match=r"data\.customer"):
        services.submit(factories.OPERATOR, agent, services.Request(input="x", data=data))
    assert not Run.objects.exists()


def test_a_run_of_a_quiet_environment_starts_with_the_next_claim() -> None:
    loud, quiet = factories.agent(), factories.agent()
    for _ in range(30):
        factories.run(loud)
    assert claim() is not None
    run = factories.run(quiet)
    moved = claim()
    assert moved is not None
    assert moved.run_id == run.pk


def test_with_one_slot_environments_take_turns() -> None:
    agents = [factories.agent() for _ in range(3)]
    for agent in agents:
        for _ in range(4):
            factories.run(agent)
    recent: dict[int, None] = {}
    order = []
    while (moved := claim(tuple(recent))) is not None:
        environment = Run.objects.get(pk=moved.run_id).environment_id
        order.append(environment)
        recent.pop(environment, None)
        recent[environment] = None
        finish(moved)
    assert len(order) == 12
    assert all(len(set(order[i : i + 3])) == 3 for i in range(0, 12, 3))


def test_a_priority_counts_within_its_environment_only() -> None:
    loud, quiet = factories.agent(), factories.agent()
    first = factories.run(loud, priority=50)
    factories.run(loud, priority=100)
    factories.run(quiet)
    claims = [claim() for _ in range(3)]
    assert claims[2] is not None
    assert claims[2].run_id == first.pk


def test_a_full_queue_refuses_and_stores_nothing(small_queue: None) -> None:
    agent = factories.agent()
    for _ in range(5):
        factories.run(agent)
    with pytest.raises(QueueFull) as refused:
        factories.run(agent)
    assert refused.value.retry_after
    assert Run.objects.count() == 5
    assert claim() is not None
    factories.run(agent)


@pytest.fixture
def small_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of at most five runs."""
    whole = config.current()
    small = whole.model_copy(
        update={"execution_queue": whole.execution_queue.model_copy(update={"buffer_size": 5})}
    )
    monkeypatch.setattr(queue, "current", lambda: small)
    monkeypatch.setattr(queue, "_room", queue._Room())


def test_a_retry_is_a_new_run_of_the_same_request() -> None:
    run = services.cancel(factories.OPERATOR, factories.run(priority=7))
    again = services.retry(factories.OPERATOR, run)
    assert (again.retry_of_id, again.input, again.priority) == (run.pk, run.input, 7)
    with pytest.raises(NotFinished, match="is queued"):
        services.retry(factories.OPERATOR, again)
