"""Putting a failed run off, against the real database."""

import pytest

from agents.retrying import RetryPolicy
from runs import journal, queue, services, transitions
from runs.assignment import Taking
from runs.entries import Kind
from runs.models import Run
from runs.moves import Moved
from runs.states import Status
from tests import factories
from tests.integration.runs.test_transitions import LEASE, claimed, expire, in_parallel

pytestmark = pytest.mark.django_db(transaction=True)
ERROR = ("model_unavailable", "Nobody answers.")


def put_off(moved: Moved, *, retry: int = 1, at_most: int = 2, delay: float = 0.0) -> Moved | None:
    return transitions.retry_later(
        moved.run_id, moved.fence, error=ERROR, retry=retry, at_most=at_most, delay=delay
    )


def again() -> Moved:
    moved = queue.claim("other", LEASE)
    assert moved is not None
    return moved


def test_a_run_that_is_put_off_is_queued_counted_and_journaled() -> None:
    moved = claimed()
    done = put_off(moved, delay=600)
    assert done is not None
    run = Run.objects.get(pk=moved.run_id)
    assert (run.status, run.retries, run.crashes, run.worker) == ("queued", 1, 0, "")
    assert run.error_code == ""
    (last,) = journal.read(run.pk)[-1:]
    assert last == done.event
    assert (last.kind, dict(last.payload)) == (
        Kind.RELEASED,
        {
            "reason": "retry",
            "error": {"code": "model_unavailable", "message": "Nobody answers."},
            "retry": 1,
            "at_most": 2,
            "delay": 600,
        },
    )


def test_nobody_claims_a_run_before_its_delay_has_passed() -> None:
    moved = claimed()
    assert put_off(moved, delay=600)
    assert queue.claim("other", LEASE) is None
    assert "held back until" in queue.why_queued(Run.objects.get(pk=moved.run_id))
    Run.objects.filter(pk=moved.run_id).update(available_at="2026-01-01T00:00:00Z")
    assert again().run_id == moved.run_id


def test_no_run_is_put_off_more_often_than_the_policy_allows() -> None:
    moved = claimed()
    assert put_off(moved)
    second = again()
    assert put_off(second, retry=2)
    third = again()
    assert put_off(third, retry=3) is None
    assert put_off(third, retry=1) is None
    assert transitions.finish(third.run_id, third.fence, Status.FAILED, error=(*ERROR, ""))
    assert Run.objects.get(pk=moved.run_id).retries == 2


def test_of_concurrent_tries_to_put_a_run_off_one_counts() -> None:
    moved = claimed()
    done = in_parallel(lambda: put_off(moved, at_most=20), 6)
    assert sum(result is not None for result in done) == 1
    assert Run.objects.get(pk=moved.run_id).retries == 1


@pytest.mark.parametrize("how", ["expired", "fence", "cancelled"])
def test_a_run_that_is_not_the_workers_to_move_stays_as_it_is(how: str) -> None:
    moved = claimed()
    if how == "expired":
        expire(moved.run_id)
    elif how == "fence":
        put_off(moved)
        again()
    else:
        transitions.request_cancel([moved.run_id], "alice")
    before = Run.objects.get(pk=moved.run_id)
    assert put_off(moved) is None
    after = Run.objects.get(pk=moved.run_id)
    assert (after.status, after.retries) == ("running", before.retries)
    assert after.last_seq == before.last_seq


def test_a_run_is_cancelled_at_once_while_it_is_put_off() -> None:
    moved = claimed()
    put_off(moved, delay=600)
    run = services.cancel(factories.OPERATOR, Run.objects.get(pk=moved.run_id))
    assert run.status == "cancelled"


def test_running_time_of_a_stretch_that_failed_counts() -> None:
    moved = claimed()
    Run.objects.filter(pk=moved.run_id).update(running_ms=5000)
    put_off(moved)
    assert Run.objects.get(pk=moved.run_id).running_ms >= 5000
    taken = Taking("other", ())()
    assert taken is not None
    assert taken.remaining <= Run.objects.get(pk=moved.run_id).timeout - 5


def test_a_worker_takes_over_the_policy_and_what_was_used_of_it() -> None:
    agent = factories.agent(retry={"on": ["tools_unavailable"], "backoff": "1m"})
    factories.run(agent)
    first = Taking("worker", ())()
    assert first is not None
    policy = RetryPolicy(on=("tools_unavailable",), at_most=3, backoff=60, longest=300)
    assert (first.retry, first.retries) == (policy, 0)
    assert transitions.retry_later(
        first.run_id, first.fence, error=ERROR, retry=1, at_most=3, delay=0
    )
    second = Taking("other", ())()
    assert second is not None
    assert (second.retry, second.retries, second.first) == (policy, 1, False)


def test_an_agent_without_a_policy_gives_none() -> None:
    factories.run()
    taken = Taking("worker", ())()
    assert taken is not None
    assert taken.retry is None
