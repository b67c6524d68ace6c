"""Lists: pages by cursor, filters, and a number of queries that does not grow with the rows."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agents import services as agents
from runs import services as runs
from runs.models import Run
from station.accounts import services as accounts
from station.core.principal import Role
from tests.integration.api.world import ROOT, Caller, World
from toolservers import services as toolservers
from toolservers.definition import ToolList, ToolSpec

# One of the queries is the key's: itself, its user, its environments and memberships.
QUERIES = {
    "environments": 2,
    "environments/own/members": 3,
    "variables": 2,
    "users": 4,
    "api-keys": 3,
    "ssh-keys": 2,
    "tool-servers": 2,
    "tools": 2,
    "agents": 2,
    "agents/own-agent/versions": 3,
    "runs": 2,
    "runs?environment=own&agent=own-agent": 4,
    "queue": 8,
}


def items(caller: Caller, path: str, **query: str) -> list[dict[str, Any]]:
    """The items of a page."""
    response = caller("GET", path, query=query)
    assert response.status_code == 200, response.content
    found: list[dict[str, Any]] = json.loads(response.content)["items"]
    return found


def grow(world: World) -> None:
    """Many more rows of everything."""
    for number in range(12):
        row = accounts.create_environment(ROOT, name=f"env-{number}")
        accounts.create_user(ROOT, username=f"user-{number}")
        accounts.set_role(
            ROOT, username=f"user-{number}", environment_id=world.own.pk, role=Role.VIEWER
        )
        accounts.create_api_key(
            ROOT, name="k", username="admin-person", environment_ids=[world.own.pk, row.pk]
        )
        accounts.set_variable(ROOT, environment_id=world.own.pk, name=f"V{number}", value="x")
        agents.add_version(ROOT, world.agent, agents.Definition(prompt=f"{number}"))
        agents.create(
            ROOT,
            environment_id=world.own.pk,
            name=f"agent-{number}",
            definition=agents.Definition(prompt="Work."),
        )
        toolservers.add(
            ROOT,
            environment_id=world.own.pk,
            name=f"server-{number}",
            transport="http",
            url="http://127.0.0.1:9/",
        )
        runs.submit(ROOT, world.agent, runs.Request(input=f"{number}", data={}))
    specs = [
        ToolSpec(name=f"tool-{n}", description="", input_schema={}, annotations={})
        for n in range(12)
    ]
    toolservers.store_discovery(world.server, ToolList(tools=tuple(specs)))


@pytest.mark.parametrize("path", sorted(QUERIES))
def test_a_list_asks_the_database_as_often_for_many_rows_as_for_few(
    world: World, path: str
) -> None:
    platform = world.callers["platform"]
    address = f"/api/v1/{path}"
    platform("GET", address)  # marks the key as used, which is one more query each minute
    asked = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as captured:
            assert platform("GET", address).status_code == 200
        asked.append([query["sql"] for query in captured.captured_queries])
        if len(asked) == 1:
            grow(world)
    assert len(asked[0]) == len(asked[1]), "\n".join(asked[1])
    assert len(asked[1]) == QUERIES[path], "\n".join(asked[1])


def test_pages_follow_each_other_newest_first_while_rows_come(world: World) -> None:
    first = [
        runs.submit(ROOT, world.agent, runs.Request(input=f"{n}", data={})).pk for n in range(5)
    ]
    caller = world.callers["viewer"]
    seen: list[int] = []
    path = "/api/v1/runs?" + urlencode({"limit": 2, "environment": "own"})
    while path:
        page = json.loads(caller("GET", path).content)
        seen += [row["id"] for row in page["items"]]
        runs.submit(ROOT, world.agent, runs.Request(input="newer", data={}))
        path = (page["next"] or "").removeprefix("http://testserver")
    assert seen == [*reversed(first), world.run.pk]


def test_the_previous_page_is_where_one_came_from(world: World) -> None:
    for n in range(3):
        runs.submit(ROOT, world.agent, runs.Request(input=f"{n}", data={}))
    caller = world.callers["viewer"]
    first = json.loads(caller("GET", "runs", query={"limit": "2"}).content)
    second = json.loads(caller("GET", first["next"].removeprefix("http://testserver")).content)
    again = json.loads(caller("GET", second["previous"].removeprefix("http://testserver")).content)
    assert again["items"] == first["items"]
    assert first["previous"] is None


def test_runs_are_filtered_by_all_that_is_said(world: World) -> None:
    caller = world.callers["platform"]
    other = Run.objects.get(environment=world.other)
    mine = world.run
    assert [r["id"] for r in items(caller, "runs", environment="own")] == [mine.pk]
    assert [r["id"] for r in items(caller, "runs", environment=str(world.other.pk))] == [other.pk]
    assert [r["id"] for r in items(caller, "runs", agent="own-agent")] == [mine.pk]
    assert [r["id"] for r in items(caller, "runs", agent=str(world.agent.pk))] == [mine.pk]
    assert items(caller, "runs", agent="own-agent", status="running,failed") == []
    assert len(items(caller, "runs", status="queued,failed")) == 2
    created = mine.created_at.isoformat()
    assert [r["id"] for r in items(caller, "runs", created_after=created)] == [other.pk]
    assert items(caller, "runs", created_before=created) == []
    assert len(items(caller, "runs", submitted_by="tests")) == 2
    assert items(caller, "runs", submitted_by="nobody") == []


def test_a_moment_whose_plus_was_not_escaped_is_understood(world: World) -> None:
    response = world.callers["viewer"](
        "GET", "/api/v1/runs?created_after=2020-01-01T00:00:00+02:00"
    )
    assert response.status_code == 200
    assert len(json.loads(response.content)["items"]) == 1


def test_an_agent_name_of_several_environments_needs_the_environment(world: World) -> None:
    agents.create(
        ROOT,
        environment_id=world.other.pk,
        name="own-agent",
        definition=agents.Definition(prompt="Work."),
    )
    caller = world.callers["platform"]
    assert caller("GET", "agents/own-agent").status_code == 409
    response = caller("GET", "agents/own-agent", query={"environment": "other"})
    assert json.loads(response.content)["environment"] == "other"
    assert caller("GET", "runs", query={"agent": "own-agent"}).status_code == 422
    assert items(caller, "runs", agent="own-agent", environment="other") == []


def test_agents_and_tools_are_filtered(world: World) -> None:
    caller = world.callers["admin"]
    assert [a["name"] for a in items(caller, "agents", enabled="true", name="own-agent")]
    assert items(caller, "agents", enabled="false") == []
    assert items(caller, "agents", paused="true") == []
    assert items(caller, "tools", approved="true") == []
    caller("POST", f"tools/{world.tool.pk}/approve", {"digest": world.tool.digest})
    found = items(caller, "tools", approved="true", server="own-server", available="true")
    assert [tool["name"] for tool in found] == ["own-tool"]
    assert items(caller, "tools", approved="false", environment="own") == []
    assert items(caller, "tool-servers", enabled="false") == []
    assert len(items(caller, "variables", environment="own")) == 2
