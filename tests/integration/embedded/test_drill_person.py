"""The person of a drill decides by what was seen, and knows a lost answer from a conflict."""

from collections.abc import Sequence
from typing import Any

import pytest
from django.db import OperationalError

from runs import decisions, journal, queue, transitions
from runs.entries import Entry, Kind
from runs.errors import NothingToDecide
from runs.models import Run
from station.core.errors import Conflict
from station.core.principal import Principal
from station.embedded.drills.person import decide_about
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
CALLS: list[dict[str, Any]] = [
    {"call_id": name, "tool": "s__write", "arguments": {}, "step": 1, "index": index}
    for index, name in enumerate(["c1", "c2"])
]


@pytest.fixture
def waiting() -> Run:
    factories.run()
    moved = queue.claim("w", 60)
    assert moved is not None
    calls = [{"id": call["call_id"], "name": call["tool"], "arguments": "{}"} for call in CALLS]
    answered = {"step": 1, "content": "", "tool_calls": calls}
    journal.append(moved.run_id, moved.fence, [Entry(kind=Kind.MODEL_ANSWERED, payload=answered)])
    details = {"calls": CALLS}
    transitions.wait(moved.run_id, moved.fence, reason="doubt", details=details, expires=60)
    return Run.objects.select_related("environment").get(pk=moved.run_id)


def verdicts(run: Run) -> list[str]:
    decided = [event for event in journal.read(run.pk) if event.kind is Kind.DECIDED]
    return [event.payload["decision"] for event in decided]


class Losing:
    """Decides, and loses the answer with the database; the first time only."""

    def __init__(self, *, decides: bool = True) -> None:
        self._decides = decides
        self.calls = 0

    def __call__(
        self, by: Principal, run: Run, said: Sequence[decisions.Decision], *, why: str
    ) -> None:
        self.calls += 1
        if self._decides or self.calls > 1:
            decisions.decide(by, run, said, why=why)
        if self.calls == 1:
            raise OperationalError("the server closed the connection")


def test_a_call_that_was_seen_happened_and_another_is_repeated(waiting: Run) -> None:
    assert decide_about(factories.OPERATOR, waiting, {f"{waiting.pk}:1:1"}) == 2
    assert verdicts(waiting) == ["repeat", "happened"]


@pytest.mark.parametrize("decides", [True, False])
def test_a_lost_answer_is_no_conflict_whether_it_was_stored_or_not(
    waiting: Run, decides: bool
) -> None:
    losing = Losing(decides=decides)
    assert decide_about(factories.OPERATOR, waiting, set(), decide=losing) == 2
    assert verdicts(waiting) == ["repeat", "repeat"]


def test_a_run_that_asks_about_nothing_is_not_passed_over(waiting: Run) -> None:
    decide_about(factories.OPERATOR, waiting, set())
    with pytest.raises(NothingToDecide):
        decide_about(factories.OPERATOR, Run.objects.get(pk=waiting.pk), set())


def test_somebody_elses_decision_is_a_conflict(waiting: Run) -> None:
    def overtaken(*arguments: Any, why: str) -> None:
        decisions.decide(*arguments, why="I was quicker.")
        decisions.decide(*arguments, why=why)

    with pytest.raises(Conflict):
        decide_about(factories.OPERATOR, waiting, set(), decide=overtaken)
