"""Pausing the whole queue is a switch of its own, beside those of environments."""

from collections.abc import Iterator

import pytest
from django.db import connection

from agents.models import Agent
from runs import queue
from station.accounts import environments, pausing, services
from station.accounts.models import Environment
from station.core.errors import Forbidden
from station.core.principal import Principal, Role
from tests import factories
from tests.factories import OPERATOR
from tests.integration.runs.test_transitions import in_parallel

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def agent() -> Agent:
    return factories.agent(factories.environment("prod"))


def starts() -> bool:
    """Whether a queued run can be started; if so, it is."""
    return queue.claim("worker", 60.0) is not None


def test_a_pause_of_all_holds_for_environments_made_meanwhile(agent: Agent) -> None:
    pausing.pause_queue(OPERATOR)
    factories.run(agent)
    factories.run(factories.agent(factories.environment("later")))
    assert not starts()
    pausing.resume_queue(OPERATOR)
    assert starts()
    assert starts()


def test_its_end_leaves_single_pauses_as_they_were(agent: Agent) -> None:
    factories.run(agent)
    environments.update(OPERATOR, agent.environment_id, paused=True)
    pausing.pause_queue(OPERATOR)
    pausing.resume_queue(OPERATOR)
    assert not starts()
    environments.update(OPERATOR, agent.environment_id, paused=False)
    assert starts()


def test_an_environment_resumed_meanwhile_starts_runs_afterwards(agent: Agent) -> None:
    factories.run(agent)
    environments.update(OPERATOR, agent.environment_id, paused=True)
    pausing.pause_queue(OPERATOR)
    row = environments.update(OPERATOR, agent.environment_id, paused=False)
    assert (row.paused_itself, row.paused) == (False, True)
    environments.update(OPERATOR, agent.environment_id, description="Still paused.")
    assert not starts()
    pausing.resume_queue(OPERATOR)
    assert starts()


def test_it_says_who_paused_first_and_since_when() -> None:
    other = Principal(kind="user", id="7", label="other", platform_admin=True)
    assert not pausing.queue_switch().paused
    first = pausing.pause_queue(OPERATOR)
    assert (first.by, first.since is not None) == ("tests", True)
    assert pausing.pause_queue(other).since == first.since
    assert pausing.queue_switch().by == "tests"
    resumed = pausing.resume_queue(other)
    assert (resumed.paused, resumed.by, resumed.since) == (False, "", None)


def test_an_admin_of_an_environment_does_not_pause_all(agent: Agent) -> None:
    admin = Principal(kind="user", id="7", label="a", roles={agent.environment_id: Role.ADMIN})
    for move in (pausing.pause_queue, pausing.resume_queue):
        with pytest.raises(Forbidden):
            move(admin)
    assert not pausing.queue_switch().paused


def test_whatever_happens_together_no_environment_escapes_the_switch() -> None:
    for turn in range(5):
        pausing.resume_queue(OPERATOR)
        names: Iterator[str] = iter([f"t{turn}-{n}" for n in range(6)])
        existing = factories.environment(f"t{turn}").pk

        def move(names: Iterator[str] = names, existing: int = existing) -> None:
            name = next(names)
            if name.endswith("0"):
                pausing.pause_queue(OPERATOR)
            elif name.endswith("1"):
                environments.update(OPERATOR, existing, paused=False)
            else:
                services.create_environment(OPERATOR, name=name)
            connection.close()

        in_parallel(move, 6)
        assert not Environment.objects.filter(paused=False).exists()
