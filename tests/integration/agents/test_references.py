"""What a name and what an id stands for, where one thing's name reads like another one's id."""

import json
from typing import Any

import pytest

from agents import changes, services
from agents.errors import AgentNotFound
from agents.models import Agent
from runs import services as runs
from station.accounts import services as accounts
from station.accounts.errors import EnvironmentNotFound
from tests import factories
from tests.factories import OPERATOR
from tests.integration.api.world import Caller, World, build

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    return build()


@pytest.fixture
def platform(world: World) -> Caller:
    return world.callers["platform"]


@pytest.fixture
def agent() -> Agent:
    return factories.agent(factories.environment("prod"), "helper")


@pytest.fixture
def namesake(agent: Agent) -> Agent:
    """An agent of another environment whose name is the other one's id."""
    return factories.agent(factories.environment("other"), str(agent.pk))


def test_a_retry_stays_with_its_agent(agent: Agent, namesake: Agent) -> None:
    run = factories.run(agent)
    runs.cancel(OPERATOR, run)
    run.refresh_from_db()
    again = runs.retry(OPERATOR, run)
    assert (again.agent_id, again.environment_id) == (agent.pk, agent.environment_id)


def test_a_change_answers_with_the_agent_it_changed(agent: Agent, namesake: Agent) -> None:
    assert changes.update(OPERATOR, agent, paused=True).pk == agent.pk


def test_a_new_agent_is_answered_although_others_are_called_like_its_id(agent: Agent) -> None:
    coming = str(agent.pk + 3)
    for _ in range(2):
        factories.agent(name=coming)
    made = factories.agent(name="new")
    assert (str(made.pk), made.name) == (coming, "new")


def test_a_text_is_a_name_first_and_a_number_an_id(agent: Agent, namesake: Agent) -> None:
    assert services.get(OPERATOR, str(agent.pk)).pk == namesake.pk
    assert services.get(OPERATOR, agent.pk).pk == agent.pk
    assert services.get(OPERATOR, str(namesake.pk)).pk == namesake.pk
    with pytest.raises(AgentNotFound):
        services.get(OPERATOR, -1)


def test_an_environments_name_comes_before_anothers_id() -> None:
    first = factories.environment("z")
    second = factories.environment(str(first.pk))
    assert accounts.environment(OPERATOR, str(first.pk)).pk == second.pk
    assert accounts.environment(OPERATOR, first.pk).pk == first.pk
    zeros = factories.environment(f"0{second.pk}")
    assert accounts.environment(OPERATOR, zeros.name).pk == zeros.pk
    assert accounts.environment(OPERATOR, str(second.pk)).pk == second.pk
    with pytest.raises(EnvironmentNotFound):
        accounts.environment(OPERATOR, -1)


def said(response: Any) -> Any:
    return json.loads(response.content)


def test_addresses_lead_to_what_they_were_given_for(world: World, platform: Caller) -> None:
    factories.agent(name=str(world.agent.pk))
    run = said(platform("GET", f"runs/{world.run.pk}"))
    assert said(platform("GET", run["links"]["agent"]))["id"] == world.agent.pk

    version = platform("POST", "agents/own-agent/versions?environment=own", {"prompt": "Rest."})
    assert said(platform("GET", version["Location"]))["definition"]["prompt"] == "Rest."

    body = {"environment": "own", "name": "new", "definition": {"prompt": "Work."}}
    made = platform("POST", "agents", body)
    factories.agent(name=str(said(made)["id"]))
    assert said(platform("GET", made["Location"]))["name"] == "new"

    made = platform("POST", "environments", {"name": "fresh"})
    factories.environment(str(said(made)["id"]))
    assert said(platform("GET", made["Location"]))["name"] == "fresh"


def test_a_json_number_is_an_id(world: World, platform: Caller) -> None:
    namesake = factories.environment(str(world.own.pk))
    body = {"name": "new", "definition": {"prompt": "Work."}}
    for reference, expected in ((world.own.pk, "own"), (str(world.own.pk), namesake.name)):
        made = said(platform("POST", "agents", body | {"environment": reference}))
        assert made["environment"] == expected
