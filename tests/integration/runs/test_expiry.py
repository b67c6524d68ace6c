"""Runs that wait too long: from the request, or the doubt, to the keeper that ends them."""

from datetime import timedelta

import pytest
from django.db.models import F

from runs import decisions, jobs, journal, queue, services
from runs.decisions import Decision, Verdict
from runs.entries import Kind
from runs.errors import NothingToDecide
from runs.models import Run
from station.core.errors import Conflict
from tests import factories
from tests.integration.runs.doubting import CALLS, doubt

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE = 60
"""What :func:`doubt` waits, and the queue timeout of the runs here, in seconds."""


def let_time_pass(run: Run, seconds: float) -> None:
    """Have the times of the run be so long ago, or so much nearer."""
    step = timedelta(seconds=seconds)
    Run.objects.filter(pk=run.pk).update(
        created_at=F("created_at") - step,
        queue_deadline=F("queue_deadline") - step,
        wait_expires_at=F("wait_expires_at") - step,
    )


def expired(run: Run) -> Run:
    """The run as a person sees it after a keeper's tick."""
    jobs.expire_idle()
    return services.get(factories.OPERATOR, run.pk)


def test_a_run_that_no_worker_came_for_times_out_when_its_queue_timeout_is_over() -> None:
    run = factories.run(queue_timeout=PATIENCE)
    let_time_pass(run, PATIENCE - 10)
    assert expired(run).status == "queued"
    let_time_pass(run, 20)
    ended = expired(run)
    assert (ended.status, ended.error_code) == ("timed_out", "queue_deadline")
    assert ended.finished_at is not None
    assert journal.read(run.pk)[-1].payload["status"] == "timed_out"
    assert queue.claim("w", 60) is None


def test_a_run_without_a_queue_timeout_waits_as_long_as_it_takes() -> None:
    run = factories.run()
    let_time_pass(run, 365 * 24 * 3600)
    assert expired(run).status == "queued"


def test_a_run_that_nobody_decides_about_times_out_and_cannot_be_decided_afterwards() -> None:
    factories.run()
    waiting = doubt()
    let_time_pass(waiting, PATIENCE - 10)
    assert expired(waiting).status == "waiting"
    let_time_pass(waiting, 20)
    ended = expired(waiting)
    assert (ended.status, ended.error_code) == ("timed_out", "wait_expired")
    assert [event.kind for event in journal.read(ended.pk)][-2:] == [Kind.WAITING, Kind.FINISHED]
    said = [Decision(call_id=call["call_id"], verdict=Verdict.REPEAT) for call in CALLS]
    with pytest.raises(Conflict):
        decisions.decide(factories.OPERATOR, waiting, said)
    with pytest.raises(NothingToDecide):
        decisions.decide(factories.OPERATOR, ended, said)
