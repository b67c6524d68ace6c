"""What a run used up is added up, and kept however the run ends."""

from decimal import Decimal

import pytest

from runs import journal, queue, transitions
from runs.entries import Entry, Kind, Spent
from runs.models import Run
from runs.moves import Moved
from runs.states import TERMINAL, Status
from tests.integration.runs.test_transitions import LEASE, claimed, expire

pytestmark = pytest.mark.django_db(transaction=True)
A_STEP = Spent(steps=1, input_tokens=3, output_tokens=5, cost_usd=Decimal("0.01"))
TWO_STEPS = Spent(steps=2, input_tokens=6, output_tokens=10, cost_usd=Decimal("0.02"))
THE_LAST = Spent(steps=1, input_tokens=70, output_tokens=11, cost_usd=Decimal("0.00000002"))


def append(moved: Moved) -> None:
    journal.append(moved.run_id, moved.fence, [Entry(kind=Kind.MODEL_ANSWERED)], A_STEP)


def spent(run_id: int) -> Spent:
    row = Run.objects.get(pk=run_id)
    return Spent(
        steps=row.steps,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost_usd=row.cost_usd,
    )


@pytest.mark.parametrize("ending", sorted(TERMINAL))
def test_steps_tokens_and_cost_of_all_steps_are_added_up_whatever_the_ending(
    ending: Status,
) -> None:
    moved = claimed()
    append(moved)
    append(moved)
    assert spent(moved.run_id) == TWO_STEPS
    if ending is Status.CANCELLED:
        transitions.request_cancel([moved.run_id], "alice")
    assert transitions.finish(moved.run_id, moved.fence, ending, spent=THE_LAST)
    assert spent(moved.run_id) == Spent(
        steps=3, input_tokens=76, output_tokens=21, cost_usd=Decimal("0.02000002")
    )


def test_a_run_that_ends_without_another_step_keeps_what_it_spent() -> None:
    moved = claimed()
    append(moved)
    append(moved)
    error = ("model_refused", "no", "")
    assert transitions.finish(moved.run_id, moved.fence, Status.FAILED, error=error)
    assert spent(moved.run_id) == TWO_STEPS


def test_what_several_workers_spent_is_added_up_and_kept_when_the_last_one_dies() -> None:
    moved = claimed()
    append(moved)
    transitions.hand_back(moved.run_id, moved.fence, reason="drained")
    second = queue.claim("other", LEASE)
    assert second is not None
    append(second)
    assert spent(moved.run_id) == TWO_STEPS
    expire(moved.run_id)
    assert transitions.fail_expired(1, "they died")
    assert spent(moved.run_id) == TWO_STEPS
