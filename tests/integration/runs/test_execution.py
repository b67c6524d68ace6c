"""One execution over real rows, with a model that is played."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from runs import journal, transitions
from runs.assignment import Assignment, Taking
from runs.bus import Publisher
from runs.circuits import Circuits
from runs.database import Units
from runs.entries import Entry, Kind
from runs.execution import Execution
from runs.llm.client import LiteLlmClient
from runs.models import Circuit, Run
from runs.ports import ModelAnswer, ModelClient
from runs.scripted.testing import ScriptedModel
from runs.testing import FakeModel, answer
from tests import factories
from tests.integration.runs.asking import client, script, turn

pytestmark = pytest.mark.django_db(transaction=True)


class Leases:
    """Never lost."""

    def check(self, run_id: int, fence: int) -> None:
        pass


class Worker:
    """What an execution needs of its process."""

    def __init__(self, units: Units, model: ModelClient) -> None:
        self.units, self.model = units, model
        self.leases, self.sessions, self.catalog = Leases(), None, None
        self.publisher: Publisher

    def carries(self, assignment: Assignment) -> None:
        async def carry() -> None:
            self.publisher = Publisher()
            try:
                await Execution(assignment, self).run()  # type: ignore[arg-type]
            finally:
                await self.publisher.close()
                if isinstance(self.model, LiteLlmClient):
                    await self.model.close()

        asyncio.run(carry())


@pytest.fixture
def units() -> Iterator[Units]:
    units = Units(threads=2)
    yield units
    units.close()


def taken() -> Assignment:
    factories.run()
    assignment = Taking("w", ())()
    assert assignment is not None
    return assignment


@pytest.mark.parametrize(
    "unstorable", [replace(answer("Done."), cost_usd=Decimal(10) ** 9)], ids=["cost"]
)
def test_an_ending_that_cannot_be_stored_ends_the_run_as_errored(
    units: Units, unstorable: ModelAnswer
) -> None:
    assignment = taken()
    Worker(units, FakeModel([unstorable])).carries(assignment)
    run = Run.objects.get(pk=assignment.run_id)
    assert (run.status, run.error_code) == ("failed", "errored")
    assert run.error_reference


def test_a_provider_that_is_silent_until_a_run_has_no_time_left_has_failed(units: Units) -> None:
    assignment = taken()
    assignment = replace(assignment, remaining=0.5, brief=replace(assignment.brief, model="m"))
    circuits = Circuits(units, failures=3, provider="openai", model="")
    with ScriptedModel(script(turn(delay=30))) as model:

        def clock() -> float:
            return time.monotonic() + (15.0 if model.requests else 0.0)

        Worker(units, client(model, circuits=circuits, clock=clock)).carries(assignment)
    assert Run.objects.get(pk=assignment.run_id).status == "timed_out"
    assert Circuit.objects.get().failures == 1


def test_an_answer_is_stored_with_the_ending(units: Units) -> None:
    assignment = taken()
    Worker(units, FakeModel([answer("Done.")])).carries(assignment)
    run = Run.objects.get(pk=assignment.run_id)
    assert (run.status, run.output, run.steps, run.input_tokens) == ("succeeded", "Done.", 1, 10)


def in_doubt() -> Assignment:
    """A run whose last owner announced a call and did no more."""
    first = taken()
    asked = {"id": "c1", "name": "w", "arguments": "{}"}
    step = {"step": 1, "content": "", "tool_calls": [asked]}
    called = {"step": 1, "index": 0, "call_id": "c1", "tool": "w", "arguments": {}, "attempt": 1}
    entries = [
        Entry(kind=Kind.MODEL_ANSWERED, payload=step),
        Entry(kind=Kind.TOOL_CALLED, payload=called),
    ]
    journal.append(first.run_id, first.fence, entries)
    assert transitions.hand_back(first.run_id, first.fence, reason="drained")
    again = Taking("w", ())()
    assert again is not None
    return again


def test_a_run_whose_time_is_up_asks_nobody_about_a_call_in_doubt(units: Units) -> None:
    again = replace(in_doubt(), remaining=0.0)
    Worker(units, FakeModel([])).carries(again)
    assert Run.objects.get(pk=again.run_id).status == "timed_out"


def test_a_call_in_doubt_waits_a_week_for_a_person(units: Units) -> None:
    again = in_doubt()
    model = FakeModel([])
    Worker(units, model).carries(again)
    run = Run.objects.get(pk=again.run_id)
    assert (run.status, run.wait_reason, model.requests) == ("waiting", "doubt", [])
    assert run.wait_expires_at is not None
    asked_at = run.events.get(kind="run.waiting").at
    assert abs(run.wait_expires_at - asked_at - timedelta(days=7)) < timedelta(seconds=5)
