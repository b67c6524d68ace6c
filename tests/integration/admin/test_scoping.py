"""Who sees and may do what in the admin follows from roles, not from Django's permissions."""

import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runs.models import Submission, Worker
from station.accounts.admin.base import StationAdmin, row_url
from station.accounts.models import QueueSwitch
from tests.integration.admin.conftest import Visitor
from tests.integration.admin.pages import PATHS, address, move, page_of, rows_of, text_of
from tests.integration.api.test_lists import grow
from tests.integration.api.world import World

OF_THE_ENVIRONMENT = ("environment", "membership", "variable", "tool server", "tool", "agent",
                      "version", "run", "event")  # fmt: skip
OF_THE_PERSON = ("user", "api key", "ssh key")
MEMBERS = ("viewer", "operator", "admin", "owner", "platform")
# (role, kind) -> may add, may change, may delete; everything else is for looking only
RIGHTS = {
    ("operator", "agent"): (True, True, False),
    ("admin", "agent"): (True, True, False),
    ("admin", "environment"): (False, True, False),
    ("admin", "membership"): (True, True, True),
    ("admin", "variable"): (True, True, True),
    ("admin", "tool server"): (True, False, True),
    ("platform", "environment"): (True, True, False),
    ("platform", "membership"): (True, True, True),
    ("platform", "variable"): (True, True, True),
    ("platform", "tool server"): (True, False, True),
    ("platform", "agent"): (True, True, False),
    ("platform", "user"): (True, True, False),
}


def test_every_model_of_station_but_two_is_registered() -> None:
    ours = {"accounts", "toolservers", "agents", "runs"}
    models = {m for m in __import__("django.apps").apps.apps.get_models()
              if m._meta.app_label in ours}  # fmt: skip
    known = {m: made for m, made in admin.site._registry.items() if m in models}
    assert models - known.keys() == {QueueSwitch, Submission}
    assert all(isinstance(made, StationAdmin) for made in known.values())


@pytest.mark.parametrize("kind", OF_THE_ENVIRONMENT)
def test_rows_of_an_environment_are_seen_by_its_members_only(
    world: World, visit: Visitor, kind: str
) -> None:
    row = rows_of(world)[kind]
    query = {"run": str(world.run.pk)} if kind == "event" else {}
    for role in (*MEMBERS, "stranger"):
        listed = f'href="{row_url(row)}' in text_of(visit(role), address(kind), **query)
        found = visit(role).get(row_url(row)).status_code
        assert (listed, found) == ((True, 200) if role in MEMBERS else (False, 302)), role


@pytest.mark.parametrize("kind", OF_THE_PERSON)
def test_rows_of_a_person_are_seen_by_them_and_platform_admins_only(
    world: World, visit: Visitor, kind: str
) -> None:
    row = rows_of(world)[kind]
    for role in ("viewer", "operator", "admin", "stranger", "owner", "platform"):
        listed = f'href="{row_url(row)}' in text_of(visit(role), address(kind))
        found = visit(role).get(row_url(row)).status_code
        sees = role in ("owner", "platform")
        assert (listed, found) == ((True, 200) if sees else (False, 302)), role


@pytest.mark.parametrize("kind", [k for k in PATHS if k != "worker"])
@pytest.mark.parametrize("role", ["viewer", "operator", "admin", "platform"])
def test_rights_follow_from_the_role(world: World, visit: Visitor, role: str, kind: str) -> None:
    row, client = rows_of(world)[kind], visit(role)
    adds, changes, deletes = RIGHTS.get((role, kind), (False, False, False))
    adds = adds or kind in ("api key", "ssh key")
    assert (client.get(address(kind, "add")).status_code == 200) is adds
    assert (client.get(address(kind, row.pk, "delete")).status_code == 200) is deletes
    if client.get(row_url(row)).status_code == 200:
        assert ('name="_save"' in page_of(client, row)) is changes
        if not changes and kind != "run":
            assert client.post(row_url(row), {}).status_code == 403


def test_nobody_comes_in_without_logging_in(world: World, visit: Visitor) -> None:
    for kind in PATHS:
        response = visit("anonymous").get(address(kind))
        assert response.status_code == 302
        assert response.headers["Location"].startswith("/admin/login/")
    assert "Station" in text_of(visit("anonymous"), "/admin/login/")


def test_no_page_of_a_stranger_names_the_environment(world: World, visit: Visitor) -> None:
    for kind in PATHS:
        assert "own-" not in text_of(visit("stranger"), address(kind)), kind
        assert ">own<" not in text_of(visit("stranger"), address(kind)), kind
    assert "own-agent" not in text_of(visit("stranger"), "/admin/")


def test_a_filter_names_only_what_one_may_see(world: World, visit: Visitor) -> None:
    page = text_of(visit("stranger"), address("run"))
    assert "other-agent (other)" in page
    assert "own-agent" not in page
    page = text_of(visit("stranger"), address("run"), agent=str(world.agent.pk))
    assert f'href="{row_url(world.run)}' not in page


@pytest.mark.parametrize("query", ["digest__startswith=a", "user__password__startswith=a"])
def test_lists_cannot_be_asked_about_what_they_do_not_show(
    world: World, visit: Visitor, query: str
) -> None:
    response = visit("platform").get(f"{address('api key')}?{query}")
    assert response.status_code == 400


@pytest.mark.parametrize("kind", sorted(PATHS))
@pytest.mark.parametrize("value", ["x", "-1", "9" * 30, "%00"])
def test_filters_and_searches_take_any_text(
    world: World, visit: Visitor, kind: str, value: str
) -> None:
    for name in ("q", "environment", "agent", "run", "status", "p", "within"):
        response = visit("platform").get(f"{address(kind)}?{name}={value}")
        assert response.status_code in (200, 302, 400), name


def test_moves_of_a_row_one_cannot_see_do_nothing(world: World, visit: Visitor) -> None:
    status, _ = move(visit("stranger"), world.run, "cancel")
    assert status == 302
    world.run.refresh_from_db()
    assert world.run.status == "queued"
    assert visit("viewer").get(row_url(world.run) + "do/cancel/").status_code != 200


def test_buttons_are_for_those_who_may(world: World, visit: Visitor) -> None:
    assert "do/cancel/" not in page_of(visit("viewer"), world.run)
    assert "do/cancel/" in page_of(visit("operator"), world.run)
    assert "do/approve/" not in page_of(visit("operator"), world.tool)
    assert "do/approve/" in page_of(visit("admin"), world.tool)
    assert "do/approve/" not in page_of(visit("operator"), world.server)
    assert "do/approve/" in page_of(visit("admin"), world.server)
    assert move(visit("viewer"), world.run, "cancel")[0] == 403
    assert move(visit("operator"), world.tool, "approve")[0] == 403


# Session, user and memberships are three of them; each filter by rows and each count is one.
QUERIES = {
    "environment": 6, "user": 8, "membership": 7, "variable": 7, "api key": 7, "ssh key": 6,
    "tool server": 7, "tool": 7, "agent": 7, "version": 7, "run": 6, "event": 5, "worker": 6,
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(QUERIES))
def test_a_list_asks_the_database_as_often_for_many_rows_as_for_few(
    world: World, visit: Visitor, kind: str
) -> None:
    client = visit("platform")
    Worker.objects.create(name="w0", host="h", pid=1, slots=4, busy=1)
    query = {"run": str(world.run.pk)} if kind == "event" else {}
    asked = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as captured:
            text_of(client, address(kind), **query)
        asked.append([query["sql"] for query in captured.captured_queries])
        if len(asked) == 1:
            grow(world)
            for number in range(12):
                name = f"w{number + 1}"
                Worker.objects.create(name=name, host="h", pid=1, slots=4, busy=1)
    assert len(asked[0]) == len(asked[1]), "\n".join(asked[1])
    assert len(asked[1]) == QUERIES[kind], "\n".join(asked[1])


def test_the_dashboard_and_the_run_page_ask_a_fixed_number_of_times(
    world: World, visit: Visitor
) -> None:
    client = visit("platform")
    grow(world)
    for path, most in (("/admin/", 13), (row_url(world.run), 9)):
        text_of(client, path)  # what is remembered for the process's life is not counted
        with CaptureQueriesContext(connection) as captured:
            text_of(client, path)
        statements = [query["sql"] for query in captured.captured_queries]
        assert len(statements) == most, "\n".join(statements)
