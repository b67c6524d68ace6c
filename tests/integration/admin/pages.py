"""Reading pages, and where they are."""

from typing import Any

from django.contrib.messages import get_messages
from django.db import models
from django.test import Client

from agents.models import AgentVersion
from runs.models import RunEvent
from station.accounts.admin.base import move_url, row_url
from station.accounts.models import ApiKey, Membership, SshKey, User, Variable
from tests.integration.api.world import World

PATHS = {
    "environment": "accounts/environment",
    "user": "accounts/user",
    "membership": "accounts/membership",
    "variable": "accounts/variable",
    "api key": "accounts/apikey",
    "ssh key": "accounts/sshkey",
    "tool server": "toolservers/toolserver",
    "tool": "toolservers/tool",
    "agent": "agents/agent",
    "version": "agents/agentversion",
    "run": "runs/run",
    "event": "runs/runevent",
    "worker": "runs/worker",
}


def address(kind: str, *rest: object) -> str:
    return "/".join(["/admin", PATHS[kind], *map(str, rest)]) + "/"


def rows_of(world: World) -> dict[str, models.Model]:
    """One row of each kind that belongs to environment ``own``, or to its owner-person."""
    owner = User.objects.get(username="owner-person")
    return {
        "environment": world.own,
        "user": owner,
        "membership": Membership.objects.get(user=owner),
        "variable": Variable.objects.get(name="OWN_REGION"),
        "api key": ApiKey.objects.get(user=owner),
        "ssh key": SshKey.objects.get(user=owner),
        "tool server": world.server,
        "tool": world.tool,
        "agent": world.agent,
        "version": AgentVersion.objects.get(agent=world.agent),
        "run": world.run,
        "event": RunEvent.objects.get(run=world.run, seq=1),
    }


def text_of(client: Client, path: str, **query: Any) -> str:
    """The page, which must be there."""
    response = client.get(path, query)
    assert response.status_code == 200, (path, response.status_code, response.headers)
    return str(response.content.decode())


def post(client: Client, path: str, **data: Any) -> tuple[int, str]:
    """Post a form; the status, and the page or the messages of the redirect."""
    response = client.post(path, data)
    body = response.content.decode()
    if response.status_code == 302:
        body = " ".join(str(message) for message in get_messages(response.wsgi_request))
    return response.status_code, body


def move(client: Client, row: models.Model, name: str, **data: Any) -> tuple[int, str]:
    """Press a button on a row's page."""
    return post(client, move_url(row, name), **data)


def page_of(client: Client, row: models.Model) -> str:
    return text_of(client, row_url(row))
