"""Bells for runs that may start because something else has changed."""

import pytest

from agents import changes
from runs import tasks
from runs.models import Worker
from station.accounts import environments
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """The bells since the test began."""
    bells: list[None] = []
    monkeypatch.setattr(tasks, "send_ring", lambda: bells.append(None))
    return bells


def test_what_a_pause_or_a_cap_held_up_is_rung_for_once_it_is_lifted(rung: list[None]) -> None:
    agent = changes.update(factories.OPERATOR, factories.agent(), paused=True)
    Worker.objects.create(name="w", host="h", pid=1, slots=2)
    for _ in range(3):
        factories.run(agent)
    rung.clear()
    changes.update(factories.OPERATOR, agent, max_running=5)
    assert len(rung) == 0, "it is paused still"
    changes.update(factories.OPERATOR, agent, paused=False)
    assert len(rung) == 2, "one for each free slot"
    rung.clear()
    environments.update(factories.OPERATOR, agent.environment_id, max_running=5)
    assert len(rung) == 2


def test_where_nothing_waits_or_nobody_is_free_nothing_rings(rung: list[None]) -> None:
    agent = factories.agent()
    Worker.objects.create(name="w", host="h", pid=1, slots=2)
    changes.update(factories.OPERATOR, agent, description="New.")
    factories.run(agent)
    Worker.objects.update(busy=2)
    rung.clear()
    changes.update(factories.OPERATOR, agent, description="Newer.")
    assert rung == []
