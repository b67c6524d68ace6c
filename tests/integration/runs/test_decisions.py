"""Calls in doubt: what a person may say, and what becomes of the run."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from runs import decisions, journal, queue, transitions
from runs.decisions import Decision, Verdict
from runs.entries import Entry, Kind
from runs.errors import NothingToDecide
from runs.models import Run
from station.core.errors import Conflict, Forbidden, InvalidInput
from station.core.principal import Principal, Role
from tests import factories
from tests.integration.runs.locking import locked_runs, waiting_for_locks
from tests.processes import until

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
    answered = Entry(
        kind=Kind.MODEL_ANSWERED,
        payload={
            "step": 1,
            "content": "",
            "tool_calls": [
                {"id": call["call_id"], "name": call["tool"], "arguments": "{}"} for call in CALLS
            ],
        },
    )
    journal.append(moved.run_id, moved.fence, [answered])
    transitions.wait(
        moved.run_id, moved.fence, reason="doubt", details={"calls": CALLS}, expires=60
    )
    return Run.objects.select_related("environment").get(pk=moved.run_id)


def verdicts(*said: Verdict) -> list[Decision]:
    calls = [call["call_id"] for call in CALLS][: len(said)]
    return [Decision(call_id=c, verdict=v) for c, v in zip(calls, said, strict=True)]


def test_a_decided_run_is_queued_again_and_says_who_decided_and_why(waiting: Run) -> None:
    said = [
        Decision(call_id="c1", verdict=Verdict.HAPPENED, result="order 7"),
        Decision(call_id="c2", verdict=Verdict.REPEAT),
    ]
    run = decisions.decide(factories.OPERATOR, waiting, said, why="I looked")
    assert run.status == "queued"
    first, second = [e.payload for e in journal.read(run.pk) if e.kind is Kind.DECIDED]
    assert first == {
        "call_id": "c1", "decision": "happened", "result": "order 7", "by": "tests",
        "why": "I looked",
    }  # fmt: skip
    assert second["decision"] == "repeat"


def test_stop_ends_the_run_as_failed(waiting: Run) -> None:
    run = decisions.decide(factories.OPERATOR, waiting, verdicts(Verdict.STOP, Verdict.REPEAT))
    assert (run.status, run.error_code) == ("failed", "stopped_in_doubt")


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ([], r"decisions: call 'c1' is undecided"),
        (verdicts(Verdict.REPEAT), r"call 'c2' is undecided"),
        ([Decision(call_id="zz", verdict=Verdict.REPEAT)], r"decisions\[0\]\.call_id: 'zz'"),
        ([*verdicts(Verdict.REPEAT), *verdicts(Verdict.STOP)], "'c1' is decided twice"),
        (
            [Decision(call_id="c1", verdict=Verdict.REPEAT, result="x")],
            r"decisions\[0\]\.result: goes with 'happened' only",
        ),
    ],
)
def test_an_unclear_decision_changes_nothing(
    waiting: Run, said: list[Decision], complaint: str
) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        decisions.decide(factories.OPERATOR, waiting, said)
    assert Run.objects.get(pk=waiting.pk).last_seq == waiting.last_seq


def test_only_the_first_of_two_decisions_counts(waiting: Run) -> None:
    both = verdicts(Verdict.REPEAT, Verdict.REPEAT)
    decisions.decide(factories.OPERATOR, waiting, both)
    with pytest.raises((NothingToDecide, Conflict)):
        decisions.decide(factories.OPERATOR, waiting, both)
    fresh = Run.objects.get(pk=waiting.pk)
    with pytest.raises(NothingToDecide, match="is queued and waits for no decision"):
        decisions.decide(factories.OPERATOR, fresh, both)


def test_of_two_people_who_decide_at_the_same_moment_one_is_told_of_the_other(
    waiting: Run,
) -> None:
    wishes = {"alice": Verdict.REPEAT, "bob": Verdict.STOP}

    def decide(name: str) -> bool:
        person = Principal(
            kind="user", id=name, label=name, roles={waiting.environment_id: Role.OPERATOR}
        )
        try:
            decisions.decide(person, waiting, verdicts(wishes[name], wishes[name]))
        except Conflict:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(2) as people, locked_runs(waiting.pk):
        said = {name: people.submit(decide, name) for name in wishes}
        until(lambda: waiting_for_locks() == 2, what="both at once")
    (winner,) = [name for name, future in said.items() if future.result()]
    told = [e.payload for e in journal.read(waiting.pk) if e.kind is Kind.DECIDED]
    assert [payload["by"] for payload in told] == [winner, winner]
    run = Run.objects.get(pk=waiting.pk)
    assert run.status == ("queued" if winner == "alice" else "failed")


def test_a_viewer_decides_nothing(waiting: Run) -> None:
    viewer = Principal(kind="user", id="1", label="v", roles={waiting.environment_id: Role.VIEWER})
    with pytest.raises(Forbidden):
        decisions.decide(viewer, waiting, verdicts(Verdict.REPEAT, Verdict.REPEAT))
