"""How long an Idempotency-Key stands for its first run, and for whom."""

from datetime import timedelta

import pytest
from django.utils import timezone

from agents.models import Agent
from runs import services
from runs.errors import IdempotencyKeyReused
from runs.models import Run, Submission
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def submit(agent: Agent, task: str = "x") -> int:
    """The run of a request under the one key."""
    request = services.Request(input=task, data={})
    return services.submit(factories.OPERATOR, agent, request, idempotency_key="k").pk


def let_time_pass(**span: float) -> None:
    Submission.objects.update(created_at=timezone.now() - timedelta(**span))


def test_the_same_request_gets_its_first_run_for_a_day() -> None:
    agent = factories.agent()
    first = submit(agent)
    let_time_pass(hours=23, minutes=59)
    assert submit(agent) == first
    with pytest.raises(IdempotencyKeyReused):
        submit(agent, "y")
    assert Run.objects.count() == 1


def test_after_a_day_the_key_stands_for_a_new_run_also_before_a_keeper_forgot_it() -> None:
    agent = factories.agent()
    first = submit(agent)
    let_time_pass(hours=24, minutes=1)
    second = submit(agent)
    assert second != first
    assert submit(agent) == second
    let_time_pass(hours=24, minutes=1)
    assert submit(agent, "y") not in {first, second}


def test_the_same_key_in_another_environment_is_another_key() -> None:
    here, there = factories.agent(), factories.agent()
    first, second = submit(here), submit(there)
    assert first != second
    assert (submit(here), submit(there)) == (first, second)
