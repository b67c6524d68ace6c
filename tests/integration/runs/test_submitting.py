"""The same request with the same key: the same run, whatever has changed meanwhile."""

import pytest

from agents import changes
from runs import queue, services
from runs.errors import IdempotencyKeyReused, QueueFull
from runs.models import Run, Submission
from runs.services import Request
from station import config
from station.core.errors import Conflict, InvalidInput
from tests import factories
from tests.factories import OPERATOR

pytestmark = pytest.mark.django_db
TASK = Request(input="Go.", data={})


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the queue admit no more than it has."""
    whole = config.current()
    small = whole.execution_queue.model_copy(update={"buffer_size": 1})
    monkeypatch.setattr(
        queue, "current", lambda: whole.model_copy(update={"execution_queue": small})
    )
    monkeypatch.setattr(queue, "_room", queue._Room())


def test_a_repetition_finds_its_run_when_the_agent_accepts_none_any_more() -> None:
    agent = factories.agent()
    first = services.submit(OPERATOR, agent, TASK, idempotency_key="k")
    for change in ({"concurrency_key": "customer.id"}, {"enabled": False}):
        agent = changes.update(OPERATOR, agent, **change)
        assert services.submit(OPERATOR, agent, TASK, idempotency_key="k").pk == first.pk
    with pytest.raises(Conflict):
        services.submit(OPERATOR, agent, TASK, idempotency_key="new")


def test_a_repetition_finds_its_run_when_the_queue_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = factories.agent()
    first = services.submit(OPERATOR, agent, TASK, idempotency_key="k")
    full(monkeypatch)
    assert services.submit(OPERATOR, agent, TASK, idempotency_key="k").pk == first.pk
    with pytest.raises(IdempotencyKeyReused):
        services.submit(OPERATOR, agent, Request(input="No.", data={}), idempotency_key="k")
    with pytest.raises(QueueFull):
        services.submit(OPERATOR, agent, TASK, idempotency_key="new")


def test_a_refused_request_leaves_its_key_free() -> None:
    agent = changes.update(OPERATOR, factories.agent(), concurrency_key="customer")
    with pytest.raises(InvalidInput):
        services.submit(OPERATOR, agent, TASK, idempotency_key="k")
    assert not Submission.objects.exists()
    agent = changes.update(OPERATOR, agent, concurrency_key="")
    assert services.submit(OPERATOR, agent, TASK, idempotency_key="k").pk


def test_a_repeated_retry_finds_its_run_when_the_agent_is_disabled() -> None:
    run = factories.run()
    ended = services.cancel(OPERATOR, run)
    first = services.retry(OPERATOR, ended, idempotency_key="k")
    changes.update(OPERATOR, run.agent, enabled=False)
    assert services.retry(OPERATOR, ended, idempotency_key="k").pk == first.pk
    with pytest.raises(Conflict):
        services.retry(OPERATOR, ended, idempotency_key="new")
    assert Run.objects.count() == 2


def test_what_has_not_ended_is_found_by_an_index() -> None:
    assert "NOT" not in str(services.unfinished(services.visible(OPERATOR)).query)
