"""Claiming behind a line whose head cannot start: each agent is asked whom it has."""

from datetime import timedelta

import pytest
from django.utils import timezone

from agents.models import Agent
from runs import queue
from tests import factories
from tests.integration.runs.crowding import crowd, fallen_silent
from tests.integration.runs.locking import locked_runs, never_waiting

pytestmark = pytest.mark.django_db(transaction=True)
LEASE = 60.0
HEAD = 200
"""More than are looked at of the head of a line."""


def claimed() -> int | None:
    moved = queue.claim("w", LEASE)
    return None if moved is None else moved.run_id


def full(agent: Agent) -> Agent:
    """The agent at its cap."""
    agent.max_running = 1
    agent.save()
    fallen_silent(agent, seconds=-LEASE)
    return agent


def test_a_run_that_is_held_back_is_not_claimed_in_place_of_a_due_one_that_cannot_start() -> None:
    busy = full(factories.agent())
    free = factories.agent(busy.environment)
    crowd(busy, 1)
    (held_back,) = crowd(free, 1, available_at=timezone.now() + timedelta(seconds=600))
    assert claimed() is None
    free.runs.filter(pk=held_back).update(available_at=timezone.now() - timedelta(seconds=1))
    assert claimed() == held_back


def test_a_claim_finds_the_run_behind_one_that_somebody_else_is_claiming() -> None:
    busy = full(factories.agent())
    free = factories.agent(busy.environment)
    crowd(busy, HEAD, priority=50)
    first, second = crowd(free, 2)
    with locked_runs(first), never_waiting():
        assert claimed() == second
    assert claimed() == first


def test_of_the_agents_behind_a_line_that_cannot_start_the_first_in_line_is_next() -> None:
    busy = full(factories.agent())
    free, other = factories.agent(busy.environment), factories.agent(busy.environment)
    crowd(busy, HEAD, priority=50)
    older = crowd(other, 1) + crowd(free, 1)
    (urgent,) = crowd(other, 1, priority=1)
    assert [claimed() for _ in range(4)] == [urgent, *older, None]
