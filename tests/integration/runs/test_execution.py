"""One execution over real rows, with a model that is played."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import pytest

from runs.assignment import Assignment, Taking
from runs.bus import Publisher
from runs.database import Units
from runs.execution import Execution
from runs.models import Run
from runs.ports import ModelAnswer
from runs.testing import FakeModel, answer
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


class Leases:
    """Never lost."""

    def check(self, run_id: int, fence: int) -> None:
        pass


class Worker:
    """What an execution needs of its process."""

    def __init__(self, units: Units, model: FakeModel) -> None:
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


def test_an_answer_is_stored_with_the_ending(units: Units) -> None:
    assignment = taken()
    Worker(units, FakeModel([answer("Done.")])).carries(assignment)
    run = Run.objects.get(pk=assignment.run_id)
    assert (run.status, run.output, run.steps, run.input_tokens) == ("succeeded", "Done.", 1, 10)
