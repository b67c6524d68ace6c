"""Bad input on every door of the API: a clear error that names the field, and nothing stored."""

import json
from typing import Any

import pytest
from django.db import connection

from agents.models import Agent, AgentVersion
from runs.models import Run, Submission
from station.accounts.models import ApiKey, Environment, SshKey, User, Variable
from tests.integration.api.world import World
from toolservers.models import Tool, ToolServer

STORED = (Agent, AgentVersion, Run, Submission, ApiKey, Environment, SshKey, User, Variable)
SUBMIT = "agents/own-agent/runs"
VERSION = "agents/own-agent/versions"
DEEP: Any = "x"
for _ in range(120):
    DEEP = {"a": DEEP}


def agent(**changes: Any) -> dict[str, Any]:
    return {"environment": "own", "name": "new", "definition": {"prompt": "Work."}} | changes


def server(**changes: Any) -> dict[str, Any]:
    return {
        "environment": "own",
        "name": "new",
        "transport": "http",
        "url": "http://127.0.0.1:9/",
    } | changes


BODIES: list[tuple[str, str, Any, str, str]] = [
    ("POST", SUBMIT, {"imput": "x"}, "imput", "Did you mean 'input'?"),
    ("POST", SUBMIT, {"\0": "x"}, "\ufffd", ""),
    ("POST", SUBMIT, {}, "input", ""),
    ("POST", SUBMIT, None, "input", ""),
    ("POST", SUBMIT, {"input": 5}, "input", "Put it in quotes."),
    ("POST", SUBMIT, {"input": None}, "input", ""),
    ("POST", SUBMIT, {"input": "x", "data": []}, "data", ""),
    ("POST", SUBMIT, {"input": "x", "data": DEEP}, "data", ""),
    ("POST", SUBMIT, '{"input": "x", "data": {"n": 1e999}}', "data", ""),
    ("POST", SUBMIT, {"input": "x", "priority": "high"}, "priority", ""),
    ("POST", SUBMIT, {"input": "x", "priority": True}, "priority", ""),
    ("POST", SUBMIT, {"input": "x", "priority": 1.5}, "priority", ""),
    ("POST", SUBMIT, {"input": "x", "priority": 101}, "priority", ""),
    ("POST", SUBMIT, {"input": "x", "priority": 10**30}, "priority", ""),
    ("POST", SUBMIT, {"input": "x", "timeout": "5"}, "timeout", '"30s"'),
    ("POST", SUBMIT, {"input": "x", "timeout": "soon"}, "timeout", '"30s"'),
    ("POST", SUBMIT, {"input": "x", "timeout": 0}, "timeout", ""),
    ("POST", SUBMIT, {"input": "x", "timeout": -1}, "timeout", ""),
    ("POST", SUBMIT, {"input": "x", "timeout": "30d"}, "timeout", ""),
    ("POST", SUBMIT, {"input": "x", "timeout": True}, "timeout", ""),
    ("POST", SUBMIT, {"input": "x", "timeout": 10**400}, "timeout", ""),
    ("POST", SUBMIT, {"input": "x", "queue_timeout": {}}, "queue_timeout", ""),
    ("POST", SUBMIT, [], "body", ""),
    ("POST", SUBMIT, '"text"', "body", ""),
    ("POST", "agents", agent(environment=True), "environment", ""),
    ("POST", "agents", agent(environment=""), "environment", ""),
    ("POST", "agents", agent(environment="a\0"), "environment", ""),
    ("POST", "agents", agent(name="Big Name"), "name", ""),
    ("POST", "agents", agent(name="nul\0"), "name", "Remove it."),
    ("POST", "agents", agent(description="d" * 501), "description", ""),
    ("POST", "agents", agent(definition="Work."), "definition", ""),
    ("POST", "agents", agent(definition={}), "definition.prompt", ""),
    ("POST", "agents", agent(definition={"prompt": " "}), "definition.prompt", ""),
    ("POST", "agents", agent(definition={"promt": "x"}), "definition.promt", "'prompt'"),
    (
        "POST",
        "agents",
        agent(definition={"prompt": "x", "tools": ["nope"]}),
        "definition.tools[0]",
        "server/tool",
    ),
    ("POST", VERSION, {"prompt": "x", "tools": "a/b"}, "tools", ""),
    ("POST", VERSION, {"prompt": "x", "tools": [5]}, "tools[0]", ""),
    ("POST", VERSION, {"prompt": "x", "max_steps": "9"}, "max_steps", ""),
    ("POST", VERSION, {"prompt": "x", "max_steps": 0}, "max_steps", ""),
    ("POST", VERSION, {"prompt": "x", "parameters": {"api_key": "k"}}, "parameters.api_key", ""),
    ("POST", VERSION, {"prompt": "x", "parameters": {"stop": "\0"}}, "parameters", ""),
    ("POST", VERSION, {"prompt": "x", "output_schema": {"type": 5}}, "output_schema.type", ""),
    ("POST", VERSION, {"prompt": "x", "output_schema": {"title": "\0"}}, "output_schema", ""),
    ("POST", VERSION, {"prompt": "x", "retry": {"on": ["timeout"]}}, "retry.on[0]", "Use one of"),
    ("POST", VERSION, {"prompt": "x", "retry": {"at_most": 1}}, "retry.on", "model_unavailable"),
    ("POST", VERSION, {"prompt": "x", "retry": {"once": 1}}, "retry.once", "'on'"),
    ("POST", VERSION, {"prompt": "x", "retry": 3}, "retry", ""),
    (
        "POST",
        "agents",
        agent(definition={"prompt": "x", "retry": {"on": ["model_unavailable"], "at_most": 21}}),
        "definition.retry.at_most",
        "",
    ),
    ("PATCH", "agents/own-agent", {"enabled": "yes"}, "enabled", ""),
    ("PATCH", "agents/own-agent", {"enabled": None}, "enabled", ""),
    ("PATCH", "agents/own-agent", {"enable": True}, "enable", "'enabled'"),
    ("POST", "environments", {"name": "Not Valid"}, "name", ""),
    ("PATCH", "environments/own", {"paused": 1}, "paused", ""),
    ("PATCH", "environments/own", {"description": "d" * 501}, "description", ""),
    ("PUT", "environments/own/members/owner-person", {"role": "king"}, "role", "viewer"),
    ("PUT", "environments/own/members/owner-person", {"role": 10}, "role", "viewer"),
    ("POST", "variables", {"environment": "own", "name": "X", "value": "v"}, "secret", ""),
    (
        "POST",
        "variables",
        {"environment": "own", "name": "lower", "value": "v", "secret": False},
        "name",
        "",
    ),
    (
        "POST",
        "variables",
        {"environment": "own", "name": "X", "value": "", "secret": True},
        "value",
        "",
    ),
    ("POST", "users", {"username": "nul\0"}, "username", ""),
    ("POST", "users", {"username": "new", "password": "123"}, "password", ""),
    ("POST", "users", {"username": "new", "email": "no address"}, "email", ""),
    ("POST", "api-keys", {"name": "k", "role": "root"}, "role", ""),
    ("POST", "api-keys", {"name": "k", "environments": "own"}, "environments", ""),
    ("POST", "api-keys", {"name": "k", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at", ""),
    ("POST", "api-keys", {"name": "k", "expires_at": "tomorrow"}, "expires_at", "2026-01-31"),
    ("POST", "api-keys", {"name": "k" * 101}, "name", ""),
    ("POST", "ssh-keys", {"public_key": "ssh-rsa nonsense"}, "public_key", ""),
    ("POST", "tool-servers", server(transport="carrier-pigeon"), "transport", "stdio"),
    ("POST", "tool-servers", server(url="ftp://example.org"), "url", ""),
    ("POST", "tool-servers", server(args=[1]), "args[0]", ""),
    ("POST", "tool-servers", server(env={"A": 1}), "env.A", ""),
    ("POST", "tool-servers", server(env={"A\0": "1"}), "env", ""),
    ("POST", "tool-servers", server(headers=[]), "headers", ""),
    (
        "POST",
        "tool-servers",
        server(transport="stdio", command="/bin/sh", url=""),
        "command",
        "mcp.stdio_commands",
    ),
    ("PATCH", "tool-servers/own-server", {"url": "http://elsewhere"}, "url", "enabled"),
]


@pytest.mark.parametrize(("method", "path", "body", "field", "fix"), BODIES)
def test_a_bad_body_is_refused_naming_the_field(  # noqa: PLR0917 - a table's columns
    world: World, method: str, path: str, body: Any, field: str, fix: str
) -> None:
    before = counts()
    response = world.callers["platform"](method, path, body)
    assert response.status_code == 422, response.content
    problem = json.loads(response.content)
    assert problem["code"] == "invalid_input"
    assert field in [error["field"] for error in problem["errors"]]
    error = next(error for error in problem["errors"] if error["field"] == field)
    assert error["problem"]
    assert fix in error["fix"]
    assert counts() == before


BODILESS = ("runs/{run}/retry", "runs/{run}/cancel", "queue/pause", "queue/resume",
            "tool-servers/own-server/test")  # fmt: skip


@pytest.mark.parametrize("path", BODILESS)
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"reason": "x"}, 422),
        ([], 422),
        ("null", 422),
        ("{", 400),
        ('{"x": NaN}', 400),
        (json.dumps({"x": "x" * (10 << 20)}), 413),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_body_where_none_is_taken_is_refused(
    world: World, path: str, body: Any, status: int
) -> None:
    response = world.callers["platform"]("POST", path.format(run=world.run.pk), body)
    assert response.status_code == status, response.content
    world.run.refresh_from_db()
    assert world.run.status == "queued"


@pytest.mark.parametrize("body", [None, {}, ""])
def test_no_body_or_an_empty_one_is_as_good(world: World, body: Any) -> None:
    response = world.callers["operator"]("POST", f"runs/{world.run.pk}/cancel", body)
    assert response.status_code == 200


def test_a_deletion_takes_no_body(world: World) -> None:
    path = f"variables/{world.paths['variable_id']}"
    assert world.callers["admin"]("DELETE", path, {"force": True}).status_code == 422
    assert world.callers["admin"]("DELETE", path).status_code == 204


QUERIES = [
    ("runs", {"statsu": "queued"}, "statsu", "'status'"),
    ("runs", {"status": "queued,lost"}, "status", "running"),
    ("runs", {"status": ""}, "status", ""),
    ("runs", {"limit": "0"}, "limit", ""),
    ("runs", {"limit": "201"}, "limit", ""),
    ("runs", {"limit": "9" * 5000}, "limit", ""),
    ("runs", {"cursor": "%%%"}, "cursor", ""),
    ("runs", {"cursor": "AAAA"}, "cursor", "follow `next`"),
    ("runs", {"cursor": "cD1hYmM="}, "cursor", ""),
    ("runs", {"cursor": ""}, "cursor", ""),
    ("runs", {"environment": "nowhere"}, "environment", ""),
    ("runs", {"environment": "9" * 40}, "environment", ""),
    ("runs", {"agent": "nobody"}, "agent", ""),
    ("runs", {"agent": "a\0b"}, "agent", ""),
    ("runs", {"created_after": "yesterday"}, "created_after", "2026-01-31"),
    ("runs", {"submitted_by": "\0"}, "submitted_by", ""),
    ("agents", {"enabled": "maybe"}, "enabled", ""),
    ("agents", {"agent": "own-agent"}, "agent", ""),
    ("tools", {"server": "nothing"}, "server", ""),
    ("tools", {"approved": "1"}, "approved", ""),
    ("variables", {"environment": "nowhere"}, "environment", ""),
    ("users", {"active": "yes"}, "active", ""),
    ("environments", {"name": "own"}, "name", ""),
    ("environments/own", {"x": "1"}, "x", ""),
    ("queue", {"x": "1"}, "x", ""),
    ("tool-servers/own-server/logs", {"lines": "-1"}, "lines", ""),
]


@pytest.mark.parametrize(("path", "query", "field", "fix"), QUERIES)
def test_a_bad_query_is_refused_naming_the_parameter(
    world: World, path: str, query: dict[str, str], field: str, fix: str
) -> None:
    response = world.callers["platform"]("GET", path, query=query)
    assert response.status_code == 422, response.content
    [error] = json.loads(response.content)["errors"]
    assert error["field"] == field
    assert error["problem"]
    assert fix in error["fix"]


@pytest.mark.parametrize("number", ["x", "-1", "2147483648", "1.5"])
def test_a_bad_place_in_a_journal_is_refused(world: World, number: str) -> None:
    path = f"runs/{world.run.pk}/events"
    response = world.callers["viewer"]("GET", path, query={"after": number})
    assert response.status_code == 422, response.content


def test_a_parameter_given_twice_is_refused(world: World) -> None:
    response = world.callers["viewer"]("GET", "/api/v1/runs?status=queued&status=failed")
    assert response.status_code == 422
    assert json.loads(response.content)["errors"][0]["field"] == "status"


@pytest.mark.parametrize(
    "path",
    [
        *("runs/0", "runs/x", "runs/99999999999999999999999", "runs/%00", "runs/²"),
        *("agents/nobody", "agents/%00", "agents/9999999999999999999", "tool-servers/%00"),
        *("environments/%00", "users/%00", "api-keys/%00", "variables/99999999999999999999"),
        *("agents/own-agent/versions/2", "agents/own-agent/versions/99999999999999999999"),
        *("tools/99999999999999999999", "ssh-keys/99999999999999999999", "nothing/here"),
        f"variables/{'9' * 5000}",
    ],
)
def test_what_does_not_exist_is_not_found(world: World, path: str) -> None:
    response = world.callers["platform"]("GET", path)
    assert response.status_code == 404, response.content
    assert json.loads(response.content)["status"] == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{", 400),
        ('{"input": NaN}', 400),
        (b'{"input": "\xff"}', 400),
        ("[" * 100_000, 400),
        ('{"input": "\\ud800"}', 400),
        (json.dumps({"input": "x" * (10 << 20)}), 413),
    ],
)
def test_what_is_not_json_or_too_large_is_refused(
    world: World, body: str | bytes, status: int
) -> None:
    before = counts()
    response = world.callers["platform"]("POST", SUBMIT, body)
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert counts() == before


def test_all_bad_fields_are_named_at_once(world: World) -> None:
    body = {"input": 1, "priority": "x", "timout": "5m"}
    response = world.callers["platform"]("POST", SUBMIT, body)
    errors = json.loads(response.content)["errors"]
    assert {error["field"] for error in errors} == {"input", "priority", "timout"}


def test_characters_that_cannot_be_stored_in_a_task_are_replaced(world: World) -> None:
    body = {"input": "a\0b", "data": {"k\0": ["\0"]}}
    response = world.callers["operator"]("POST", SUBMIT, body)
    assert response.status_code == 202
    run = json.loads(response.content)
    assert run["input"] == "a\ufffdb"
    assert run["data"] == {"k\ufffd": ["\ufffd"]}


def test_a_disabled_agent_accepts_no_runs(world: World) -> None:
    world.callers["operator"]("PATCH", "agents/own-agent", {"enabled": False})
    response = world.callers["operator"]("POST", SUBMIT, {"input": "Go."})
    assert response.status_code == 409
    assert json.loads(response.content)["code"] == "agent_disabled"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("environments", {"name": "own"}),
        ("agents", agent(name="own-agent")),
        ("tool-servers", server(name="own-server")),
        ("users", {"username": "owner-person"}),
    ],
)
def test_a_name_is_given_once(world: World, path: str, body: dict[str, Any]) -> None:
    response = world.callers["platform"]("POST", path, body)
    assert response.status_code == 409
    assert json.loads(response.content)["code"] == "name_taken"


def counts() -> list[int]:
    """How many rows there are of everything."""
    with connection.cursor() as cursor:
        found = []
        for model in (*STORED, Tool, ToolServer):
            cursor.execute(f"SELECT count(*) FROM {model._meta.db_table}")  # noqa: S608
            found.append(cursor.fetchone()[0])
    return found
