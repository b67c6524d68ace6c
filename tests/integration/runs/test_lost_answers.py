"""A worker's statement was committed, its answer got lost, and so it is tried again.

What counts is what the run then looks like: nothing may happen twice.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal

import pytest

from runs import journal, queue, transitions
from runs.entries import Entry, Event, Kind, Spent
from runs.models import Run
from runs.moves import Moved
from runs.states import Status
from tests.integration.runs.test_transitions import LEASE, claimed

pytestmark = pytest.mark.django_db(transaction=True)
Change = Callable[[Moved], object]
LAST = Entry(kind=Kind.MODEL_ANSWERED, payload={"step": 1})
SPENT = Spent(steps=1, input_tokens=3, output_tokens=5, cost_usd=Decimal("0.01"))


def finish(moved: Moved) -> Moved | None:
    return transitions.finish(
        moved.run_id, moved.fence, Status.SUCCEEDED, before=[LAST], spent=SPENT, output="ok"
    )


def wait(moved: Moved) -> Moved | None:
    return transitions.wait(
        moved.run_id, moved.fence, reason="doubt", details={"calls": []}, expires=600
    )


def hand_back(moved: Moved) -> Moved | None:
    return transitions.hand_back(moved.run_id, moved.fence, reason="drained")


def retry_later(moved: Moved) -> Moved | None:
    return transitions.retry_later(
        moved.run_id, moved.fence, error=("model_unavailable", "no"), retry=1, at_most=3, delay=0
    )


def state(run_id: int) -> tuple[Mapping[str, object], list[Event]]:
    """The row and the journal."""
    return Run.objects.filter(pk=run_id).values().get(), journal.read(run_id)


@pytest.mark.parametrize(
    ("change", "status", "last"),
    [
        (finish, Status.SUCCEEDED, Kind.FINISHED),
        (wait, Status.WAITING, Kind.WAITING),
        (hand_back, Status.QUEUED, Kind.RELEASED),
        (retry_later, Status.QUEUED, Kind.RELEASED),
    ],
)
def test_what_is_tried_again_after_its_commit_changes_nothing_more(
    change: Change, status: Status, last: Kind
) -> None:
    moved = claimed()
    change(moved)
    row, events = state(moved.run_id)
    assert (row["status"], events[-1].kind) == (status, last)
    assert row["last_seq"] == len(events)
    change(moved)
    assert state(moved.run_id) == (row, events)


@pytest.mark.parametrize("change", [hand_back, retry_later])
def test_what_is_tried_again_does_not_take_the_run_from_whoever_has_it_by_now(
    change: Change,
) -> None:
    moved = claimed()
    change(moved)
    assert queue.claim("other", LEASE)
    before = state(moved.run_id)
    change(moved)
    assert state(moved.run_id) == before
    assert before[0]["status"] == Status.RUNNING
    assert before[0]["worker"] == "other"


def test_a_wait_that_is_tried_again_does_not_ask_about_what_was_decided_by_now() -> None:
    moved = claimed()
    wait(moved)
    seen = Run.objects.get(pk=moved.run_id).last_seq
    assert transitions.resume(moved.run_id, seen, [{"by": "alice"}])
    before = state(moved.run_id)
    wait(moved)
    assert state(moved.run_id) == before
    assert before[0]["status"] == Status.QUEUED


@pytest.mark.parametrize("change", [wait, hand_back, retry_later])
def test_a_cancellation_between_two_tries_is_not_undone(change: Change) -> None:
    moved = claimed()
    change(moved)
    assert transitions.cancel_idle([moved.run_id], "alice")
    before = state(moved.run_id)
    change(moved)
    finish(moved)
    assert state(moved.run_id) == before
    assert before[0]["status"] == Status.CANCELLED
