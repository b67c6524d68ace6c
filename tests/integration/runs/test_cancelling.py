"""Cancelling many runs at once, against the real database."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runs import journal, queue, services, transitions
from runs.entries import Kind
from runs.models import Run
from tests import factories
from tests.integration.runs.test_transitions import LEASE, in_parallel

pytestmark = pytest.mark.django_db(transaction=True)


def test_people_who_cancel_the_same_runs_end_each_of_them_once() -> None:
    agent = factories.agent()
    runs = [factories.run(agent) for _ in range(250)]
    rows = services.visible(factories.OPERATOR)

    ended = in_parallel(lambda: services.cancel_many(factories.OPERATOR, rows), 4)

    assert sum(ended) == len(runs)  # type: ignore[arg-type]
    for run in runs:
        assert [event.kind for event in journal.read(run.pk)] == [Kind.SUBMITTED, Kind.FINISHED]


def test_each_run_is_cancelled_as_its_state_asks_for() -> None:
    agent = factories.agent()
    runs = [factories.run(agent) for _ in range(4)]
    running, waiting, ended = (queue.claim("w", LEASE) for _ in range(3))
    assert running
    assert waiting
    assert ended
    transitions.wait(waiting.run_id, waiting.fence, reason="doubt", details={}, expires=600)
    services.cancel(factories.OPERATOR, Run.objects.get(pk=ended.run_id))

    assert services.cancel_many(factories.OPERATOR, services.visible(factories.OPERATOR)) == 3

    found = {run.pk: (run.status, run.cancel_requested_at is not None) for run in Run.objects.all()}
    assert found[running.run_id] == ("running", True)
    assert found[waiting.run_id] == found[runs[3].pk] == ("cancelled", True)
    assert [event.kind for event in journal.read(running.run_id)][-1] == Kind.CANCEL_REQUESTED


def test_the_database_is_asked_as_often_for_two_hundred_as_for_two() -> None:
    agent = factories.agent()
    asked = []
    for count in (2, 200):
        for _ in range(count):
            factories.run(agent)
        with CaptureQueriesContext(connection) as captured:
            services.cancel_many(factories.OPERATOR, services.visible(factories.OPERATOR))
        asked.append(len(captured))
    assert asked[0] == asked[1]
