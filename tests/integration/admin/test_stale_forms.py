"""A form that was open for a while changes what its person changed, and nothing else."""

import pytest
from django.test import Client

from agents import changes, services
from agents.models import Agent
from agents.services import Definition
from station.accounts import environments
from station.accounts.admin.base import row_url
from tests.factories import OPERATOR
from tests.integration.admin.browser import form_of
from tests.integration.admin.conftest import Visitor
from tests.integration.admin.pages import page_of, post
from tests.integration.api.world import World

PROMPT = "\nYou help.\n\nBe brief: <b>&amp;</b>\n"


@pytest.fixture
def client(visit: Visitor) -> Client:
    return visit("admin")


@pytest.fixture
def agent(world: World) -> Agent:
    definition = Definition(
        prompt=PROMPT,
        model="openai/gpt-4",
        fallback_models=["a", "b"],
        tools=["own-server/*", "own-server/look"],
        timeout=90.0,
        parameters={"temperature": 0.5, "stop": ["é\n"]},
        output_schema={"type": "object", "properties": {"a": {}}},
        retry={"on": ["model_unavailable"]},
    )
    services.add_version(OPERATOR, world.agent, definition)
    changes.update(OPERATOR, world.agent, max_running=5, concurrency_key="customer.id")
    return services.visible(OPERATOR).get(pk=world.agent.pk)


def opened(client: Client, row: Agent) -> dict[str, str]:
    return form_of(page_of(client, row), "agent_form")


def fresh(agent: Agent) -> Agent:
    return services.visible(OPERATOR).get(pk=agent.pk)


def test_saving_an_untouched_form_changes_nothing(client: Client, agent: Agent) -> None:
    assert post(client, row_url(agent), **opened(client, agent))[0] == 302
    assert fresh(agent).current_version == agent.current_version
    assert fresh(agent).max_running == 5


def test_what_others_changed_meanwhile_stays(client: Client, agent: Agent) -> None:
    form = opened(client, agent)
    changes.update(OPERATOR, agent, max_running=10, concurrency_key="", max_running_per_key=7)
    version = services.add_version(OPERATOR, agent, Definition(prompt="Others wrote this."))
    form["description"] = "Ours."
    assert post(client, row_url(agent), **form)[0] == 302
    after = fresh(agent)
    assert after.description == "Ours."
    assert (after.max_running, after.concurrency_key, after.max_running_per_key) == (10, "", 7)
    assert after.current_version == version


def test_a_changed_definition_keeps_what_others_changed_of_it(client: Client, agent: Agent) -> None:
    form = opened(client, agent)
    before = agent.current_version
    assert before is not None
    others = services.definition_of(before)
    services.add_version(
        OPERATOR, agent, Definition(prompt=others.prompt, tools=["own-server/other"])
    )
    form["prompt"] = "You write.\r\nAt length."
    assert post(client, row_url(agent), **form)[0] == 302
    version = fresh(agent).current_version
    assert version is not None
    assert (version.prompt, version.tools) == ("You write.\nAt length.", ["own-server/other"])
    assert (version.model, version.number) == ("", 4)


def test_what_a_person_changed_is_changed(client: Client, agent: Agent) -> None:
    form = opened(client, agent)
    changes.update(OPERATOR, agent, max_running=10)
    wanted = {"max_running": "", "concurrency_key": "", "timeout": "", "output_schema": ""}
    assert post(client, row_url(agent), **form | wanted)[0] == 302
    after = fresh(agent)
    assert (after.max_running, after.concurrency_key) == (None, "")
    version = after.current_version
    assert version is not None
    assert (version.timeout, version.output_schema, version.prompt) == (None, None, PROMPT)


def test_a_form_that_was_refused_still_knows_what_it_showed(client: Client, agent: Agent) -> None:
    form = opened(client, agent) | {"max_steps": "0", "description": "Ours."}
    status, page = post(client, row_url(agent), **form)
    assert status == 200
    again = form_of(page, "agent_form")
    changes.update(OPERATOR, agent, max_running=10)
    assert post(client, row_url(agent), **again | {"max_steps": "9"})[0] == 302
    after = fresh(agent)
    assert after.current_version is not None
    assert (after.max_running, after.description, after.current_version.max_steps) == (
        10,
        "Ours.",
        9,
    )


def test_an_environments_cap_is_not_reverted(client: Client, world: World) -> None:
    environments.update(OPERATOR, world.own.pk, max_running=5)
    form = form_of(page_of(client, world.own), "environment_form")
    environments.update(OPERATOR, world.own.pk, max_running=10)
    assert post(client, row_url(world.own), **form | {"description": "Ours."})[0] == 302
    world.own.refresh_from_db()
    assert (world.own.description, world.own.max_running) == ("Ours.", 10)
    form = form_of(page_of(client, world.own), "environment_form")
    environments.update(OPERATOR, world.own.pk, description="Theirs.")
    assert post(client, row_url(world.own), **form | {"max_running": ""})[0] == 302
    world.own.refresh_from_db()
    assert (world.own.description, world.own.max_running) == ("Theirs.", None)
