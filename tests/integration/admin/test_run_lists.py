"""What the list of runs and the dashboard do with many runs at once."""

import pytest
from django.test import Client

from agents import changes
from runs import queue, services
from runs.models import Run
from station.accounts import environments, pausing
from station.accounts import services as accounts
from station.accounts.admin.base import row_url
from station.core.principal import Role
from tests import factories
from tests.factories import OPERATOR
from tests.integration.admin.conftest import Visitor
from tests.integration.admin.pages import address, move, page_of, post, text_of
from tests.integration.api.world import World

CANCEL = "/admin/runs/run/cancel/"


@pytest.fixture
def client(visit: Visitor) -> Client:
    return visit("operator")


def statuses(world: World) -> list[str]:
    rows = Run.objects.filter(environment=world.own).order_by("pk")
    return list(rows.values_list("status", flat=True))


def carried(page: str, name: str) -> str:
    return page.split(f'name="{name}" value="')[1].split('"', maxsplit=1)[0]


def test_all_runs_of_a_filtered_list_are_cancelled_after_a_look(
    world: World, client: Client
) -> None:
    for _ in range(2):
        factories.run(world.agent)
    assert CANCEL not in text_of(client, address("run"))
    assert f'href="{CANCEL}?status=queued"' in text_of(client, address("run"), status="queued")
    page = text_of(client, CANCEL, status="queued", environment=str(world.own.pk))
    assert "3 runs of this list have not ended" in page
    assert "status: queued · environment: own" in page
    later = factories.run(world.agent)
    status, said = post(client, f"{CANCEL}?status=queued", newest=carried(page, "newest"))
    assert (status, said) == (302, "3 runs cancelled or told to stop.")
    assert statuses(world) == ["cancelled"] * 3 + ["queued"]
    assert Run.objects.get(pk=later.pk).status == "queued"
    assert Run.objects.exclude(environment=world.own).get().status == "queued"
    assert "No run of this list goes on" in text_of(client, CANCEL, status="cancelled")


@pytest.mark.parametrize("query", ["", "?status=", "?p=1", "?o=1"])
def test_an_unfiltered_list_is_not_cancelled(world: World, client: Client, query: str) -> None:
    assert post(client, f"{CANCEL}{query}", newest="999999")[1] == "Choose a filter first."
    assert statuses(world) == ["queued"]


def test_nothing_ends_before_it_was_counted(world: World, client: Client) -> None:
    for given in ({}, {"newest": "x"}, {"newest": "9" * 40}):
        assert post(client, f"{CANCEL}?status=queued", **given)[0] == 200
    assert statuses(world) == ["queued"]


def test_a_viewer_cancels_no_list(world: World, visit: Visitor) -> None:
    viewer = visit("viewer")
    assert CANCEL not in text_of(viewer, address("run"), status="queued")
    assert post(viewer, f"{CANCEL}?status=queued", newest="999999")[0] == 403
    assert statuses(world) == ["queued"]


def test_a_list_with_runs_one_may_not_cancel_is_refused_whole(world: World, visit: Visitor) -> None:
    accounts.set_role(
        OPERATOR, username="operator-person", environment_id=world.other.pk, role=Role.VIEWER
    )
    _, said = post(visit("operator"), f"{CANCEL}?status=queued", newest="999999")
    assert "environment 'other'" in said
    assert statuses(world) == ["queued"]


def test_a_retry_that_is_sent_twice_from_one_page_is_one_run(world: World, client: Client) -> None:
    services.cancel(OPERATOR, world.run)
    once = carried(page_of(client, world.run), "once")
    for _ in range(2):
        said = move(client, world.run, "retry", once=once)[1]
        assert said.endswith(f"is queued: a retry of run {world.run.pk}.")
    assert Run.objects.filter(retry_of=world.run).count() == 1
    other = carried(page_of(client, world.run), "once")
    assert other != once
    move(client, world.run, "retry", once=other)
    assert Run.objects.filter(retry_of=world.run).count() == 2


def test_retries_from_the_list_are_made_once_too(world: World, client: Client) -> None:
    another = factories.run(world.agent)
    for run in (world.run, another):
        services.cancel(OPERATOR, run)
    form = {"once": carried(text_of(client, address("run")), "once")}
    chosen = form | {"action": "retry", "_selected_action": [world.run.pk, another.pk]}
    for _ in range(2):
        assert "2 done" in post(client, address("run"), **chosen)[1]
    assert Run.objects.exclude(retry_of=None).count() == 2


def test_the_dashboard_shows_caps_and_a_paused_queue(world: World, client: Client) -> None:
    assert "Agents with caps" not in text_of(client, "/admin/")
    environments.update(OPERATOR, world.own.pk, max_running=7)
    changes.update(OPERATOR, world.agent, max_running=1, concurrency_key="customer.id")
    Run.objects.filter(pk=world.run.pk).update(concurrency_key="a")
    assert queue.claim("w", 60) is not None
    assert queue.claim("w", 60) is not None
    pausing.pause_queue(OPERATOR)
    page = " ".join(text_of(client, "/admin/").split())
    assert "The whole queue is paused: tests did that" in page
    assert "<td>7 </td>" in page
    assert '<td>1 <span class="st-badge st-warning">full</span> </td>' in page
    assert "<td>1 of one customer.id</td>" in page
    assert "<td>1 of 1</td>" in page
    assert row_url(world.agent) in page


def test_an_environment_says_that_the_whole_queue_is_paused(world: World, visit: Visitor) -> None:
    admin = visit("admin")
    pausing.pause_queue(OPERATOR)
    assert "queue paused" in page_of(admin, world.own)
    assert "/do/resume/" not in page_of(admin, world.own)
    move(admin, world.own, "pause")
    assert "once the whole queue does" in move(admin, world.own, "resume")[1]
