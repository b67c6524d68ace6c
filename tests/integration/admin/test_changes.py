"""Changes in the admin go through the services; what they refuse is said at the right place."""

import re
from typing import Any

import pytest
from django.contrib.auth import authenticate

from agents.models import Agent
from runs import services as runs
from station.accounts.admin.base import row_url
from station.accounts.models import ApiKey, Environment, Membership, SshKey, User, Variable
from station.core.principal import Role
from tests.integration.admin.conftest import Visitor
from tests.integration.admin.pages import address, move, page_of, post, text_of
from tests.integration.api.world import OTHER_SSH_KEY, ROOT, SECRET, SSH_KEY, World
from toolservers.models import Tool, ToolServer


def error_at(page: str, field: str) -> str:
    """The error shown with a form's field, "" when there is none."""
    at = page.find(f'id="id_{field}"')
    assert at >= 0, f"no field {field}"
    found = re.search(r"errorlist[^>]*>\s*<li>(.*?)</li>", page[at : at + 4000], re.S)
    if found is None:
        found = re.search(rf'id="id_{field}_error".*?<li>(.*?)</li>', page, re.S)
    return found[1] if found else ""


# Secrets


def test_no_page_shows_a_secret_in_any_form(world: World, visit: Visitor) -> None:
    secret = Variable.objects.get(environment=world.own, name="TOKEN")
    assert "••••" in text_of(visit("admin"), address("variable"))
    for role in ("viewer", "admin", "platform"):
        for page in (text_of(visit(role), address("variable")), page_of(visit(role), secret)):
            assert SECRET not in page
            assert bytes(secret.sealed_value).hex() not in page


def test_a_secret_is_replaced_kept_and_never_echoed(world: World, visit: Visitor) -> None:
    client = visit("admin")
    row = Variable.objects.get(environment=world.own, name="TOKEN")
    assert post(client, row_url(row), secret="on", value="")[0] == 302
    row.refresh_from_db()
    assert row.reveal() == SECRET
    assert post(client, row_url(row), secret="on", value="newer")[0] == 302
    row.refresh_from_db()
    assert row.reveal() == "newer"
    long = "s" * 70_000
    status, page = post(client, row_url(row), secret="on", value=long)
    assert status == 200
    assert "is longer than" in page.lower()
    assert "ssssssss" not in page
    status, page = post(client, row_url(row), value="")
    assert (status, "never shown" in page) == (200, True)
    row.refresh_from_db()
    assert row.secret


def test_a_plain_variable_is_created_changed_and_deleted(world: World, visit: Visitor) -> None:
    client = visit("admin")
    given = {"environment": world.own.pk, "name": "REGION", "value": "north"}
    assert post(client, address("variable", "add"), **given)[0] == 302
    row = Variable.objects.get(environment=world.own, name="REGION")
    assert post(client, row_url(row), value="south")[0] == 302
    row.refresh_from_db()
    assert row.value == "south"
    status, page = post(client, address("variable", "add"), **given)
    assert status == 200
    assert "in use" in error_at(page, "name")
    assert post(client, address("variable", row.pk, "delete"), post="yes")[0] == 302
    assert not Variable.objects.filter(pk=row.pk).exists()


def test_an_environment_that_is_not_ones_own_cannot_be_chosen(world: World, visit: Visitor) -> None:
    given = {"environment": world.other.pk, "name": "REGION", "value": "north"}
    status, page = post(visit("admin"), address("variable", "add"), **given)
    assert status == 200
    assert "valid choice" in page
    assert not Variable.objects.filter(name="REGION").exists()


# Keys


def test_an_api_key_is_shown_once_and_its_digest_never(world: World, visit: Visitor) -> None:
    client = visit("viewer")
    given = {"name": "laptop", "user": world.users["viewer"].pk, "role": Role.VIEWER.value}
    response = client.post(address("api key", "add"), given)
    key = re.search(r"stn_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}", response.content.decode())
    assert key is not None
    assert "no-store" in response.headers["Cache-Control"]
    assert not any("stn_" in cookie.value for cookie in client.cookies.values())
    row = ApiKey.objects.get(name="laptop")
    for page in (page_of(client, row), text_of(client, address("api key")),
                 text_of(client, "/admin/")):  # fmt: skip
        assert key[0] not in page
        assert bytes(row.digest).hex() not in page
    assert "do/revoke/" in page_of(client, row)
    assert move(client, row, "revoke")[1].endswith("with the next request.")
    row.refresh_from_db()
    assert row.revoked_at is not None
    assert "do/revoke/" not in page_of(client, row)


def test_keys_are_made_for_oneself_unless_by_a_platform_admin(world: World, visit: Visitor) -> None:
    given = {"name": "x", "user": world.users["owner"].pk, "role": Role.VIEWER.value}
    status, page = post(visit("viewer"), address("api key", "add"), **given)
    assert (status, "valid choice" in page) == (200, True)
    assert visit("platform").post(address("api key", "add"), given).status_code == 200
    assert ApiKey.objects.get(name="x").user == world.users["owner"]


def test_a_key_that_would_have_expired_is_refused_at_its_field(
    world: World, visit: Visitor
) -> None:
    given = {
        "name": "late", "user": world.users["viewer"].pk, "role": Role.VIEWER.value,
        "expires_at_0": "2020-01-01", "expires_at_1": "00:00:00",
    }  # fmt: skip
    status, page = post(visit("viewer"), address("api key", "add"), **given)
    assert (status, "Lies in the past" in page) == (200, True)
    assert not ApiKey.objects.filter(name="late").exists()


def test_an_ssh_key_is_added_checked_and_revoked(world: World, visit: Visitor) -> None:
    client, path = visit("viewer"), address("ssh key", "add")
    mine = {"name": "", "user": world.users["viewer"].pk}
    status, page = post(client, path, public_key="ssh-ed25519 nonsense", **mine)
    assert status == 200
    assert "OpenSSH public key" in error_at(page, "public_key")
    status, page = post(client, path, public_key=SSH_KEY, **mine)
    assert "registered already" in error_at(page, "public_key")
    assert post(client, path, public_key=f"{OTHER_SSH_KEY} me@home", **mine)[0] == 302
    row = SshKey.objects.get(user=world.users["viewer"])
    assert row.name == "me@home"
    assert move(client, row, "revoke")[0] == 302
    row.refresh_from_db()
    assert row.revoked_at is not None


# People


def test_a_user_is_created_with_a_password_that_holds(world: World, visit: Visitor) -> None:
    client, path = visit("platform"), address("user", "add")
    status, page = post(client, path, username="new-person", password="123")
    assert status == 200
    assert "too short" in error_at(page, "password")
    assert not User.objects.filter(username="new-person").exists()
    assert post(client, path, username="new-person", password="a-long-Way-home-7")[0] == 302
    assert authenticate(username="new-person", password="a-long-Way-home-7") is not None
    status, page = post(client, path, username="new-person")
    assert (status, "already" in error_at(page, "username")) == (200, True)
    status, page = post(client, path, username="bot", password="a-long-Way-home-7",
                        service_account="on")  # fmt: skip
    assert "service account has none" in error_at(page, "password")


def test_a_password_is_set_by_platform_admins_only(world: World, visit: Visitor) -> None:
    path = address("user", world.users["viewer"].pk, "password")
    new = "another-Way-home-7"
    assert post(visit("admin"), path, password=new, again=new)[0] == 403
    status, page = post(visit("platform"), path, password=new, again="other")
    assert (status, "not the same" in page) == (200, True)
    status, page = post(visit("platform"), path, password="123", again="123")
    assert (status, "too short" in page) == (200, True)
    assert new not in page
    assert post(visit("platform"), path, password=new, again=new)[0] == 302
    assert authenticate(username="viewer-person", password=new) is not None


def test_roles_are_given_changed_and_taken_on_the_users_page(world: World, visit: Visitor) -> None:
    client, person = visit("platform"), world.users["viewer"]
    held = Membership.objects.get(user=person)
    rows: dict[str, Any] = {
        "memberships-TOTAL_FORMS": "2",
        "memberships-INITIAL_FORMS": "1",
        "memberships-0-id": held.pk,
        "memberships-0-user": person.pk,
        "memberships-0-environment": world.own.pk,
        "memberships-0-role": Role.OPERATOR.value,
        "memberships-1-user": person.pk,
        "memberships-1-environment": world.other.pk,
        "memberships-1-role": Role.VIEWER.value,
    }
    assert post(client, row_url(person), **rows)[0] == 302
    assert dict(person.memberships.values_list("environment_id", "role")) == {
        world.own.pk: Role.OPERATOR.value,
        world.other.pk: Role.VIEWER.value,
    }
    first, second = person.memberships.order_by("pk")
    rows |= {
        "memberships-INITIAL_FORMS": "2",
        "memberships-0-id": first.pk,
        "memberships-0-DELETE": "on",
        "memberships-1-id": second.pk,
    }
    assert post(client, row_url(person), **rows)[0] == 302
    assert list(person.memberships.values_list("environment_id", flat=True)) == [world.other.pk]


def test_an_admin_of_the_environment_adds_members_by_name(world: World, visit: Visitor) -> None:
    client, path = visit("admin"), address("membership", "add")
    given = {"environment": world.own.pk, "role": Role.VIEWER.value}
    status, page = post(client, path, username="nobody", **given)
    assert status == 200
    assert "no user" in error_at(page, "username")
    assert post(client, path, username="stranger-person", **given)[0] == 302
    row = Membership.objects.get(user=world.users["stranger"], environment=world.own)
    assert post(client, row_url(row), role=Role.OPERATOR.value)[0] == 302
    row.refresh_from_db()
    assert row.role == Role.OPERATOR.value
    assert post(client, address("membership", row.pk, "delete"), post="yes")[0] == 302
    assert not Membership.objects.filter(pk=row.pk).exists()


# Environments, tool servers, agents


def test_an_environment_is_created_described_and_paused(world: World, visit: Visitor) -> None:
    client = visit("platform")
    status, page = post(client, address("environment", "add"), name="Not A Name")
    assert (status, "lower-case" in error_at(page, "name")) == (200, True)
    status, page = post(client, address("environment", "add"), name="own")
    assert (status, "already" in error_at(page, "name")) == (200, True)
    assert post(client, address("environment", "add"), name="third")[0] == 302
    assert Environment.objects.filter(name="third").exists()
    admin = visit("admin")
    assert post(admin, row_url(world.own), description="Ours.")[0] == 302
    assert move(admin, world.own, "pause")[0] == 302
    world.own.refresh_from_db()
    assert (world.own.description, world.own.paused) == ("Ours.", True)
    assert move(visit("operator"), world.own, "resume")[0] == 403


@pytest.mark.parametrize(
    ("given", "field", "problem"),
    [
        ({"transport": "http", "url": "ftp://x"}, "url", "http(s)"),
        ({"transport": "http", "url": "http://a:b@x/"}, "url", "credentials"),
        ({"transport": "stdio", "command": "/bin/sh"}, "transport", "platform admin"),
        ({"transport": "http", "url": "http://x/", "headers": "oops"}, "headers", "Line 1"),
        ({"transport": "http", "url": "http://x/", "name": "own-server"}, "name", "already"),
        ({"transport": "http", "url": "http://x/", "name": "Bad Name"}, "name", "lower-case"),
    ],
)
def test_a_tool_server_that_cannot_work_is_refused_at_its_field(
    world: World, visit: Visitor, given: dict[str, str], field: str, problem: str
) -> None:
    values = {"environment": world.own.pk, "name": "fresh", **given}
    status, page = post(visit("admin"), address("tool server", "add"), **values)
    assert status == 200
    assert problem in error_at(page, field)
    assert ToolServer.objects.filter(environment=world.own).count() == 1


def test_a_tool_server_is_added_switched_off_and_removed(world: World, visit: Visitor) -> None:
    client = visit("admin")
    values = {
        "environment": world.own.pk, "name": "fresh", "transport": "http",
        "url": "http://127.0.0.1:9/mcp", "headers": "Authorization: Bearer ${secret:TOKEN}\n",
    }  # fmt: skip
    assert post(client, address("tool server", "add"), **values)[0] == 302
    row = ToolServer.objects.get(name="fresh")
    assert row.headers == {"Authorization": "Bearer ${secret:TOKEN}"}
    assert move(visit("operator"), row, "disable")[0] == 302
    row.refresh_from_db()
    assert not row.enabled
    assert post(client, address("tool server", world.server.pk, "delete"), post="yes")[0] == 302
    assert not ToolServer.objects.filter(pk=world.server.pk).exists()


def test_a_tool_server_that_cannot_be_reached_is_a_message(world: World, visit: Visitor) -> None:
    status, said = move(visit("operator"), world.server, "discover")
    assert status == 302
    assert said
    world.server.refresh_from_db()
    assert world.server.last_error
    assert "last error" in page_of(visit("viewer"), world.server).lower()


def test_a_tool_is_approved_only_as_it_was_looked_at(world: World, visit: Visitor) -> None:
    client, looked_at = visit("admin"), world.tool.digest
    assert looked_at in page_of(client, world.tool)
    Tool.objects.filter(pk=world.tool.pk).update(digest="f" * 64)
    status, said = move(client, world.tool, "approve", digest=looked_at)
    assert (status, "has changed since you looked" in said) == (302, True)
    assert move(client, world.tool, "approve", digest="f" * 64)[0] == 302
    world.tool.refresh_from_db()
    assert world.tool.approved
    assert "admin-person" in page_of(client, world.tool)


DEFINITION = {
    "description": "", "prompt": "You help more.", "model": "", "fallback_models": "",
    "tools": "own-server/*\n", "max_steps": "7", "timeout": "90s", "parameters": "",
    "output_schema": "", "max_running_per_key": "1", "versions-TOTAL_FORMS": "0",
    "versions-INITIAL_FORMS": "0",
}  # fmt: skip


def test_saving_a_changed_agent_makes_a_version_and_an_unchanged_one_none(
    world: World, visit: Visitor
) -> None:
    client = visit("operator")
    assert post(client, row_url(world.agent), **DEFINITION)[0] == 302
    agent = Agent.objects.select_related("current_version").get(pk=world.agent.pk)
    version = agent.current_version
    assert version is not None
    assert (version.number, version.tools, version.timeout) == (2, ["own-server/*"], 90.0)
    assert post(client, row_url(agent), **DEFINITION)[0] == 302
    assert agent.versions.count() == 2
    page = page_of(client, agent)
    assert ">v2<" in page
    assert ">v1<" in page
    retry = {"retry": '{"on": ["model_unavailable"], "backoff": "2m"}'}
    assert post(client, row_url(agent), **DEFINITION | retry)[0] == 302
    third = agent.versions.get(number=3)
    policy = {"on": ["model_unavailable"], "at_most": 3, "backoff": 120, "longest": 300}
    assert third.retry == policy
    assert "model_unavailable" in page_of(client, agent)
    assert "model_unavailable" in page_of(client, third)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("prompt", "   ", "empty"),
        ("tools", "everything", "not a grant"),
        ("max_steps", "0", "1 to 1000"),
        ("timeout", "soon", "no duration"),
        ("parameters", '{"api_key": "x"}', "may set"),
        ("parameters", "[1]", "JSON object"),
        ("parameters", '{"temperature": NaN}', "cannot be stored"),
        ("output_schema", '{"title": "\\ud800"}', "cannot be stored"),
        ("output_schema", '{"type": 7}', "is not valid"),
        ("retry", '{"on": ["timeout"]}', "may pass"),
    ],
)
def test_a_definition_that_cannot_work_is_refused_at_its_field(
    world: World, visit: Visitor, field: str, value: str, problem: str
) -> None:
    status, page = post(visit("operator"), row_url(world.agent), **DEFINITION | {field: value})
    assert status == 200
    assert problem in error_at(page, field)
    assert world.agent.versions.count() == 1


def test_agents_are_created_and_switched_one_by_one_and_many_at_once(
    world: World, visit: Visitor
) -> None:
    client = visit("operator")
    given = DEFINITION | {"environment": str(world.own.pk), "name": "second"}
    assert post(client, address("agent", "add"), **given)[0] == 302
    status, page = post(client, address("agent", "add"), **given)
    assert (status, "already" in error_at(page, "name")) == (200, True)
    second = Agent.objects.get(name="second")
    assert move(client, second, "disable")[0] == 302
    chosen = {"action": "pause", "_selected_action": [world.agent.pk, second.pk]}
    assert "2 done" in post(client, address("agent"), **chosen)[1]
    assert set(Agent.objects.filter(environment=world.own).values_list("paused", flat=True)) == {
        True
    }


# Runs


def test_a_queued_run_says_why_and_is_cancelled_once(world: World, visit: Visitor) -> None:
    client = visit("operator")
    assert "No worker is running" in page_of(client, world.run)
    assert move(client, world.run, "cancel")[1] == f"Run {world.run.pk} is cancelled."
    world.run.refresh_from_db()
    assert world.run.status == "cancelled"
    page = page_of(client, world.run)
    assert "by operator-person" in page
    assert "do/cancel/" not in page
    assert "has ended already" in move(client, world.run, "cancel")[1]


def test_many_runs_are_cancelled_from_the_list_and_refusals_are_told(
    world: World, visit: Visitor
) -> None:
    another = runs.submit(ROOT, world.agent, runs.Request(input="More.", data={}))
    runs.cancel(ROOT, world.run)
    chosen = {"action": "cancel", "_selected_action": [world.run.pk, another.pk]}
    said = post(visit("operator"), address("run"), **chosen)[1]
    assert "has ended already" in said
    assert "1 done" in said
    another.refresh_from_db()
    assert another.status == "cancelled"
    another = runs.submit(ROOT, world.agent, runs.Request(input="More.", data={}))
    post(visit("viewer"), address("run"), action="cancel", _selected_action=[another.pk])
    another.refresh_from_db()
    assert another.status == "queued"
