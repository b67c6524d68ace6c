"""Two environments, people of every role, and one of everything, for the REST tests."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from django.test import Client

from agents import services as agents
from agents.models import Agent
from runs import services as runs
from runs.models import Run
from station.accounts import services as accounts
from station.accounts.models import Environment, User
from station.core.principal import Role, system
from toolservers import services as toolservers
from toolservers.definition import ToolList, ToolSpec
from toolservers.models import Tool, ToolServer

ROOT = system("tests")
SECRET = "canary-that-must-not-sing"
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDUNXWBlLZ6fmfiZUmgSNPLPNwZjAO0YDY+9g8Ov/aHD"
OTHER_SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO6nLWQTYCvtNCdSmlnmTxVEtPkPDNt/cmWJjbmISPGF"
ROLES = ("anonymous", "stranger", "viewer", "operator", "admin", "platform")


class Caller:
    """Speaks JSON to the API with one credential."""

    def __init__(self, key: str | None = None) -> None:
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._client = Client(raise_request_exception=False)

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpResponse:
        """Send a request below /api/v1/ (or to a whole path) and return the response."""
        data = body if isinstance(body, str | bytes) else json.dumps(body)
        response = self._client.generic(
            method,
            path if path.startswith("/") else f"/api/v1/{path}",
            "" if body is None else data,
            content_type="application/json",
            headers={**self._headers, **(headers or {})},
            query_params=query,
        )
        assert isinstance(response, HttpResponse)
        return response


@dataclass(frozen=True, kw_only=True)
class World:
    """What there is. ``callers`` are by role in environment ``own``; strangers are in ``other``."""

    own: Environment
    other: Environment
    callers: Mapping[str, Caller]
    users: Mapping[str, User]
    agent: Agent
    server: ToolServer
    tool: Tool
    run: Run
    paths: Mapping[str, Any]


def fill(environment: Environment) -> tuple[Agent, ToolServer, Tool, Run]:
    """One of everything, named after the environment."""
    name = environment.name
    server = toolservers.add(
        ROOT,
        environment_id=environment.pk,
        name=f"{name}-server",
        transport="http",
        url="http://127.0.0.1:9/mcp",
        headers={"Authorization": "${secret:TOKEN}"},
    )
    spec = ToolSpec(
        name=f"{name}-tool", description="Looks.", input_schema={"type": "object"}, annotations={}
    )
    toolservers.store_discovery(server, ToolList(tools=(spec,)))
    agent = agents.create(
        ROOT,
        environment_id=environment.pk,
        name=f"{name}-agent",
        definition=agents.Definition(prompt=f"You are {name}."),
    )
    run = runs.submit(ROOT, agent, runs.Request(input=f"{name}-task", data={}))
    return agent, server, server.tools.get(), run


def build() -> World:
    """Store a new world."""
    own = accounts.create_environment(ROOT, name="own")
    other = accounts.create_environment(ROOT, name="other")
    for environment in (own, other):
        accounts.set_variable(
            ROOT, environment_id=environment.pk, name="TOKEN", value=SECRET, secret=True
        )
    variable = accounts.set_variable(
        ROOT, environment_id=own.pk, name="OWN_REGION", value="own-value", secret=False
    )
    callers = {"anonymous": Caller()}
    users: dict[str, User] = {}
    for name in ("stranger", "viewer", "operator", "admin", "platform", "owner"):
        users[name] = accounts.create_user(
            ROOT, username=f"{name}-person", platform_admin=name == "platform"
        )
        if name in ("viewer", "operator", "admin", "owner"):
            role = Role.VIEWER if name == "owner" else Role.parse(name)
            accounts.set_role(ROOT, username=f"{name}-person", environment_id=own.pk, role=role)
        row, key = accounts.create_api_key(ROOT, name="key", username=f"{name}-person")
        callers[name] = Caller(key)
    accounts.set_role(ROOT, username="stranger-person", environment_id=other.pk, role=Role.ADMIN)
    ssh_key = accounts.add_ssh_key(ROOT, public_key=SSH_KEY, username="owner-person")
    agent, server, tool, run = fill(own)
    fill(other)
    return World(
        own=own,
        other=other,
        callers=callers,
        users=users,
        agent=agent,
        server=server,
        tool=tool,
        run=run,
        paths={
            "environment": "own",
            "username": "owner-person",
            "variable_id": variable.pk,
            "key_id": row.key_id,
            "ssh_key_id": ssh_key.pk,
            "server": server.name,
            "tool_id": tool.pk,
            "agent": agent.name,
            "number": 1,
            "run": run.pk,
        },
    )
