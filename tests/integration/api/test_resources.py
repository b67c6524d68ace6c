"""What the other resources do: made, shown, changed, removed; and the OpenAPI document."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from station.accounts.models import Variable
from station.config import process
from tests.integration.api.documented import operation_of
from tests.integration.api.routes import operations
from tests.integration.api.world import SECRET, Caller, World


def sent(caller: Caller, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    """The answer's body, when the status is the one expected."""
    response = caller(method, path, body)
    assert response.status_code == status, response.content
    return json.loads(response.content) if response.content else None


def test_an_agent_is_made_versioned_and_switched(operator: Caller) -> None:
    definition = {
        "prompt": "Work.",
        "model": "m",
        "fallback_models": ["n"],
        "parameters": {"temperature": 0.5},
        "tools": ["own-server/*"],
        "max_steps": 7,
        "timeout": "90s",
        "output_schema": {"type": "object"},
        "retry": {"on": ["model_unavailable"], "at_most": 2, "backoff": "90s", "longest": 3600},
    }
    body = {"environment": "own", "name": "new", "description": "d", "definition": definition}
    made = sent(operator, "POST", "agents", body, 201)
    policy = {"on": ["model_unavailable"], "at_most": 2, "backoff": 90, "longest": 3600}
    assert made["definition"] == definition | {"timeout": 90, "retry": policy}
    assert (made["version"], made["enabled"], made["paused"]) == (1, True, False)
    assert sent(operator, "POST", "agents/new/versions", definition, 201)["number"] == 1
    second = sent(operator, "POST", "agents/new/versions", {"prompt": "Rest."}, 201)
    assert (second["number"], second["definition"]["tools"]) == (2, [])
    assert second["definition"]["retry"] is None
    assert sent(operator, "GET", "agents/new/versions/1")["definition"]["max_steps"] == 7
    assert [v["number"] for v in sent(operator, "GET", "agents/new/versions")["items"]] == [2, 1]
    change = {"enabled": False, "paused": True, "description": ""}
    changed = sent(operator, "PATCH", "agents/new", change)
    assert {name: changed[name] for name in change} == change
    assert sent(operator, "PATCH", "agents/new", {"description": "e"})["enabled"] is False


def test_a_definition_that_was_read_can_be_sent_back(operator: Caller) -> None:
    path = "agents/own-agent/versions"
    definition = sent(operator, "GET", "agents/own-agent")["definition"]
    assert sent(operator, "POST", path, definition, 201)["number"] == 1
    definition = definition | {"retry": {"on": ["tools_unavailable"]}}
    second = sent(operator, "POST", path, definition, 201)
    assert second["definition"]["retry"] == {
        "on": ["tools_unavailable"], "at_most": 3, "backoff": 10, "longest": 300,
    }  # fmt: skip
    assert sent(operator, "POST", path, second["definition"], 201)["number"] == 2
    assert sent(operator, "POST", path, definition, 201)["number"] == 2
    third = sent(operator, "POST", path, definition | {"retry": {}}, 201)
    assert (third["number"], third["definition"]["retry"]) == (3, None)


def test_an_environment_is_paused_and_described(admin: Caller) -> None:
    assert sent(admin, "PATCH", "environments/own", {"paused": True})["paused"] is True
    changed = sent(admin, "PATCH", "environments/own", {"description": "Ours."})
    assert (changed["paused"], changed["description"], changed["role"]) == (True, "Ours.", "admin")


def test_a_secret_goes_in_and_never_comes_out(admin: Caller) -> None:
    body = {"environment": "own", "name": "NEW", "value": SECRET, "secret": True}
    made = sent(admin, "POST", "variables", body)
    assert made["value"] is None
    assert sent(admin, "GET", f"variables/{made['id']}")["value"] is None
    again = sent(admin, "PUT", f"variables/{made['id']}", {"value": "other"})
    assert (again["secret"], again["value"]) == (True, None)
    assert Variable.objects.get(pk=made["id"]).reveal() == "other"


def test_a_plain_variable_is_shown_and_removed(admin: Caller) -> None:
    body = {"environment": "own", "name": "NEW", "value": "v", "secret": False}
    made = sent(admin, "POST", "variables", body)
    assert made["value"] == "v"
    sent(admin, "DELETE", f"variables/{made['id']}", status=204)
    sent(admin, "GET", f"variables/{made['id']}", status=404)


def test_a_member_gets_and_loses_a_role(admin: Caller, world: World) -> None:
    put = sent(admin, "PUT", "environments/own/members/stranger-person", {"role": "operator"})
    assert put == {"environment": "own", "user": "stranger-person", "role": "operator"}
    sent(world.callers["stranger"], "PATCH", "agents/own-agent", {"paused": True})
    sent(admin, "DELETE", "environments/own/members/stranger-person", status=204)
    sent(world.callers["stranger"], "GET", "agents/own-agent", status=404)


def test_a_tool_is_approved_only_as_it_was_seen(admin: Caller, world: World) -> None:
    path = f"tools/{world.tool.pk}"
    sent(admin, "POST", f"{path}/approve", {"digest": "0" * 64}, 409)
    assert sent(admin, "GET", path)["approved"] is False
    done = sent(admin, "POST", f"{path}/approve", {"digest": world.tool.digest})
    assert (done["approved"], done["approved_by"]) == (True, "admin-person/key")


def test_a_server_nobody_answers_for_fails_the_test_and_says_why(
    operator: Caller, world: World
) -> None:
    tried = sent(operator, "POST", "tool-servers/own-server/test")
    assert (tried["ok"], tried["report"]) == (False, None)
    assert tried["failure"]["code"] == "tool_server_unavailable"
    sent(operator, "POST", "tool-servers/own-server/discover", status=503)
    assert sent(operator, "GET", "tool-servers/own-server")["last_error"]


@pytest.fixture
def python_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The operator's configuration lets tool servers run this Python."""
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"mcp": {"stdio_commands": [sys.executable]}}))
    monkeypatch.setenv("STN_CONFIG", str(file))
    process.reset()
    yield
    monkeypatch.undo()
    process.reset()


def test_a_real_server_is_tried_discovered_and_heard(
    python_allowed: None, platform: Caller, operator: Caller
) -> None:
    body = {
        "environment": "own",
        "name": "demo",
        "transport": "stdio",
        "command": sys.executable,
        "args": ["-m", "toolservers.demo_server"],
        "env": {"PYTHONPATH": "mcp"},
    }
    sent(platform, "POST", "tool-servers", body, 201)
    tried = sent(operator, "POST", "tool-servers/demo/test")
    assert tried["ok"], tried["failure"]
    offered = {tool["name"] for tool in tried["report"]["tools"]}
    assert offered
    assert sent(operator, "GET", "tool-servers/demo")["discovered_at"] is None
    found = sent(operator, "POST", "tool-servers/demo/discover")
    assert {tool["name"] for tool in found["items"]} == offered
    assert sent(operator, "GET", "tool-servers/demo")["discovered_at"] is not None


def test_what_a_server_complains_of_is_shown(
    python_allowed: None, platform: Caller, operator: Caller
) -> None:
    complaint = "import sys; sys.exit('no such flag')"
    body = {
        "environment": "own",
        "name": "broken",
        "transport": "stdio",
        "command": sys.executable,
        "args": ["-c", complaint],
    }
    sent(platform, "POST", "tool-servers", body, 201)
    assert sent(operator, "POST", "tool-servers/broken/test")["ok"] is False
    lines = sent(operator, "GET", "tool-servers/broken/logs")["items"]
    assert [line["line"] for line in lines] == ["no such flag"]


def test_the_openapi_document_is_valid_and_without_warnings(tmp_path: Path) -> None:
    target = tmp_path / "openapi.yaml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(target))
    assert target.stat().st_size > 10_000


@pytest.mark.parametrize(("route", "method"), sorted(operations()))
def test_every_operation_is_documented(openapi: dict[str, Any], route: str, method: str) -> None:
    operation = operation_of(openapi, route, method)
    assert operation["summary"]
    assert operation["operationId"]
    assert operation["tags"]
    assert {name for way in operation["security"] for name in way} == {"api_key", "session"}
    assert "application/problem+json" in operation["responses"]["401"]["content"]
