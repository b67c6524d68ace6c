"""One circuit a model provider, seen alike by all workers."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db.models import F

from agents.models import Agent
from runs import queue
from runs.circuits import Circuits
from runs.database import Units
from runs.models import Circuit
from runs.ports import ModelCircuitOpen, ModelDeadline, ModelFailure, ModelUnavailable
from runs.scripted.testing import ScriptedModel
from tests import factories
from tests.integration.runs.asking import Timeline, client, request, script, turn

pytestmark = pytest.mark.django_db(transaction=True)
LEASE = 60.0
MOST = 3


@pytest.fixture
def units() -> Iterator[Units]:
    units = Units(threads=2)
    yield units
    units.close()


@pytest.fixture
def worker(units: Units) -> "Worker":
    return Worker(units)


class Worker:
    """Asks the circuits as worker processes do, each time as another one that knows nothing."""

    def __init__(self, units: Units) -> None:
        self._units = units

    @property
    def circuits(self) -> Circuits:
        return Circuits(self._units, failures=MOST, provider="openai", model="")

    def admitted(self, provider: str = "openai") -> float | None:
        return asyncio.run(self.circuits.admit(provider, patience=30.0)).wait

    def fails(self, times: int = 1, provider: str = "openai") -> float | None:
        left = None
        for _ in range(times):
            left = asyncio.run(self.circuits.failed(provider, "It is on fire."))
        return left

    def succeeds(self, provider: str = "openai") -> None:
        async def answered() -> None:
            circuits = self.circuits
            await circuits.admit(provider, patience=30.0)
            await circuits.succeeded(provider)

        asyncio.run(answered())


def ignore(text: str) -> None:
    """What the model says."""


def later(seconds: float) -> None:
    """Let time pass for the circuits."""
    by = timedelta(seconds=seconds)
    Circuit.objects.update(
        failed_at=F("failed_at") - by,
        retry_at=F("retry_at") - by,
        probing_until=F("probing_until") - by,
    )


def test_failures_in_a_row_of_any_workers_open_it_for_all(worker: Worker) -> None:
    assert worker.fails(MOST - 1) is None
    assert worker.admitted() is None
    pause = worker.fails()
    assert pause == pytest.approx(5.0, abs=1.0)
    assert worker.admitted() == pytest.approx(5.0, abs=1.0)
    assert worker.admitted("anthropic") is None


@pytest.mark.parametrize("what", ["an answer", "a while"])
def test_failures_with_something_in_between_do_not(worker: Worker, what: str) -> None:
    worker.fails(MOST - 1)
    if what == "an answer":
        worker.succeeds()
    else:
        later(90.0)
    assert worker.fails(MOST - 1) is None


def test_after_the_pause_one_tries_and_its_failure_doubles_the_pause(worker: Worker) -> None:
    worker.fails(MOST)
    pauses = []
    for _ in range(6):
        later(61.0)
        assert worker.admitted() is None, "one may try"
        assert worker.admitted() == pytest.approx(3.0), "one only"
        pauses.append(round(worker.fails() or 0.0))
    assert pauses == [10, 20, 40, 60, 60, 60]


def test_who_tried_and_fell_silent_is_not_waited_for_for_ever(worker: Worker) -> None:
    worker.fails(MOST)
    later(5.5)
    assert worker.admitted() is None
    assert worker.admitted() is not None
    later(31.0)
    assert worker.admitted() is None


def test_a_success_closes_it(worker: Worker) -> None:
    worker.fails(MOST)
    later(5.5)
    worker.succeeds()
    assert worker.admitted() is None
    assert not Circuit.objects.exists()


def test_who_has_not_heard_yet_that_it_closed_is_admitted(worker: Worker) -> None:
    worker.fails(MOST)
    slow = worker.circuits
    assert asyncio.run(slow.admit("openai", patience=30.0)).wait == pytest.approx(5.0, abs=1.0)
    later(5.5)
    worker.succeeds()
    slow._known["openai"] = time.monotonic()  # the pause is over by its clock, too
    assert asyncio.run(slow.admit("openai", patience=30.0)).wait is None


def test_failures_while_it_is_open_change_nothing(worker: Worker) -> None:
    worker.fails(MOST)
    assert worker.fails(10) == pytest.approx(5.0, abs=1.0)


def _agent(**definition: object) -> Agent:
    return factories.agent(**definition)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("definition", "starts"),
    [
        ({}, False),
        ({"model": "gpt-5"}, False),
        ({"model": "openai/gpt-5"}, False),
        ({"model": "anthropic/claude"}, True),
        ({"model": "gpt-5", "fallback_models": ["anthropic/claude"]}, True),
    ],
)
def test_runs_that_nobody_could_ask_for_stay_in_the_queue(
    worker: Worker, definition: dict[str, object], starts: bool
) -> None:
    run = factories.run(_agent(**definition))
    worker.fails(MOST)
    assert queue.unheard(older_than=0.0, at_most=5) == starts
    assert ("openai failed 3 times in a row (It is on fire.)" in queue.why_queued(run)) != starts
    claimed = queue.claim("w", LEASE)
    assert (claimed is not None) == starts
    later(5.5)
    if not starts:
        assert queue.unheard(older_than=0.0, at_most=5) == 1
        assert queue.claim("w", LEASE) is not None


def test_a_client_stops_asking_once_the_circuit_is_open(units: Units) -> None:
    down = turn(error={"status": 503, "times": 100})

    async def asked(model: ScriptedModel) -> None:
        timeline = Timeline()
        circuits = Circuits(units, failures=MOST, provider="openai", model="")
        asking = client(model, timeline, max_retries=10, circuits=circuits)
        for _ in range(2):
            with pytest.raises(ModelCircuitOpen, match="openai failed again and again") as caught:
                await asking.ask(request(deadline=timeline.now + 600))
            assert caught.value.retry_after == pytest.approx(5.0, abs=1.0)
            assert isinstance(caught.value, ModelUnavailable)
        await asking.close()

    with ScriptedModel(script(down)) as model:
        asyncio.run(asked(model))
        assert len(model.requests) == MOST


def test_an_answer_of_any_kind_shows_that_the_provider_is_there(units: Units) -> None:
    async def asked(model: ScriptedModel) -> None:
        circuits = Circuits(units, failures=MOST, provider="openai", model="")
        asking = client(model, Timeline(), max_retries=1, circuits=circuits)
        for name in ("down", "limited", "down", "well"):
            with contextlib.suppress(ModelFailure):
                await asking.ask(request(name, deadline=10_000_000.0))
        await asking.close()

    scenarios = [
        {"name": "down", "turns": [turn(error={"status": 503, "times": 100})]},
        {"name": "limited", "turns": [turn(error={"status": 429, "times": 100})]},
        {"name": "well", "turns": [turn()]},
    ]
    with ScriptedModel(scenarios) as model:
        asyncio.run(asked(model))
        assert [each.model for each in model.requests] == [
            *["down"] * 2, *["limited"] * 2, *["down"] * 2, "well",
        ]  # fmt: skip
    assert not Circuit.objects.exists()


def test_a_trial_that_stays_silent_leaves_the_run_its_time(units: Units, worker: Worker) -> None:
    worker.fails(MOST)
    later(5.5)

    async def asked(model: ScriptedModel) -> ModelCircuitOpen:
        asking = client(model, circuits=worker.circuits, request_timeout=1.0)
        with pytest.raises(ModelCircuitOpen) as caught:
            await asking.ask(request(deadline=time.monotonic() + 60.0), on_delta=ignore)
        await asking.close()
        return caught.value

    with ScriptedModel(script(turn(delay=30))) as model:
        failure = asyncio.run(asked(model))
    assert failure.retry_after == pytest.approx(10.0, abs=1.0)
    assert failure.in_vain == pytest.approx(1.0, abs=0.5)


def test_a_run_with_little_time_left_is_not_the_trial_again_and_again(
    units: Units, worker: Worker
) -> None:
    worker.fails(MOST)
    later(5.5)

    async def asked(model: ScriptedModel) -> None:
        def clock() -> float:
            return time.monotonic() + (15.0 if model.requests else 0.0)

        asking = client(model, circuits=worker.circuits, clock=clock)
        with pytest.raises(ModelDeadline):
            await asking.ask(request(deadline=time.monotonic() + 0.5), on_delta=ignore)
        await asking.close()

    with ScriptedModel(script(turn(delay=30))) as model:
        asyncio.run(asked(model))
    assert worker.admitted() == pytest.approx(10.0, abs=2.0)


@pytest.mark.parametrize("ends", ["before it asks", "while it asks"])
def test_a_trial_that_learns_nothing_makes_way(units: Units, worker: Worker, ends: str) -> None:
    worker.fails(MOST)
    later(5.5)

    async def asked(model: ScriptedModel) -> None:
        def before_send() -> None:
            if ends == "before it asks":
                raise asyncio.CancelledError

        asking = client(model, circuits=worker.circuits)
        task = asyncio.create_task(asking.ask(request(), on_delta=ignore, before_send=before_send))
        while not task.done():
            await asyncio.sleep(0.01)
            if model.requests:
                task.cancel()
        assert task.cancelled()
        await asking.close()

    with ScriptedModel(script(turn(delay=30))) as model:
        asyncio.run(asked(model))
    assert worker.admitted() is None


def test_the_pause_doubles_where_the_first_failure_opens_it(units: Units) -> None:
    circuits = Circuits(units, failures=1, provider="openai", model="")
    pauses = []
    for _ in range(3):
        pauses.append(asyncio.run(circuits.failed("openai", "It is on fire.")))
        later(60.0)
    assert pauses == pytest.approx([5.0, 10.0, 20.0], abs=1.0)


def test_a_trial_that_has_begun_to_answer_may_take_all_its_time(
    units: Units, worker: Worker
) -> None:
    worker.fails(MOST)
    later(5.5)

    async def asked(model: ScriptedModel) -> str:
        asking = client(model, circuits=worker.circuits, request_timeout=1.0)
        answer = await asking.ask(request(), on_delta=ignore)
        await asking.close()
        return answer.content

    with ScriptedModel(script(turn(say="one two three four five", drip=0.2))) as model:
        assert asyncio.run(asked(model)) == "one two three four five"
    assert not Circuit.objects.exists()


def test_an_answer_that_is_cut_off_by_the_deadline_closes_it(units: Units, worker: Worker) -> None:
    worker.fails(MOST)
    later(5.5)

    async def asked(model: ScriptedModel) -> None:
        asking = client(model, circuits=worker.circuits)
        with pytest.raises(ModelDeadline):
            await asking.ask(request(deadline=time.monotonic() + 1.0), on_delta=ignore)
        await asking.close()

    with ScriptedModel(script(turn(say="one two three " * 20, drip=0.2))) as model:
        asyncio.run(asked(model))
    assert not Circuit.objects.exists()


@pytest.mark.parametrize(("waited", "counted"), [(15.0, True), (1.0, False)])
def test_a_deadline_that_passes_in_silence_counts_if_there_was_time_to_answer(
    units: Units, waited: float, counted: bool
) -> None:
    async def asked(model: ScriptedModel) -> None:
        circuits = Circuits(units, failures=MOST, provider="openai", model="")

        def clock() -> float:
            return time.monotonic() + (waited if model.requests else 0.0)

        asking = client(model, circuits=circuits, clock=clock)
        with pytest.raises(ModelDeadline):
            await asking.ask(request(deadline=time.monotonic() + 0.5), on_delta=ignore)
        await asking.close()

    with ScriptedModel(script(turn(delay=30))) as model:
        asyncio.run(asked(model))
    assert Circuit.objects.filter(failures=1).exists() == counted


def test_slow_failures_are_in_a_row_too(units: Units) -> None:
    circuits = Circuits(units, failures=2, provider="openai", model="", request_timeout=120.0)
    asyncio.run(circuits.failed("openai", "It hangs."))
    later(130.0)
    assert asyncio.run(circuits.failed("openai", "It hangs.")) is not None
