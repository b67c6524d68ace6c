"""Deciding and retrying runs on their page, and the caps of environments and agents."""

from typing import Any

import pytest

from agents.models import AgentVersion
from runs import journal
from runs.entries import Kind
from runs.models import Run
from station.accounts.admin.base import row_url
from tests.integration.admin.conftest import Visitor
from tests.integration.admin.pages import move, page_of, post
from tests.integration.api.world import World
from tests.integration.runs.doubting import CALLS, doubt

XSS = "<script>alert('x')</script>"


@pytest.fixture
def waiting(world: World) -> Run:
    Run.objects.exclude(pk=world.run.pk).delete()
    return doubt()


def form(*verdicts: str, **more: str) -> dict[str, str]:
    calls = {f"call-{n}": str(call["call_id"]) for n, call in enumerate(CALLS)}
    return calls | {f"verdict-{n}": verdict for n, verdict in enumerate(verdicts)} | more


def test_the_calls_are_decided_by_the_form_on_the_page(visit: Visitor, waiting: Run) -> None:
    client = visit("operator")
    page = page_of(client, waiting)
    for told in ("csrfmiddlewaretoken", 'name="call-1" value="c2"', 'name="verdict-1"', "s__write"):
        assert told in page, told
    given = form("happened", "repeat", why="I looked.", **{"result-0": "order 7", "result-1": "x"})
    assert move(client, waiting, "decide", **given) == (302, f"Run {waiting.pk} goes on.")
    one, two = (e.payload for e in journal.read(waiting.pk) if e.kind is Kind.DECIDED)
    assert (one["decision"], one["result"], one["why"]) == ("happened", "order 7", "I looked.")
    assert (two["decision"], two["result"]) == ("repeat", "")
    page = page_of(client, waiting)
    assert "Call c1: it happened" in page
    assert 'id="doubt"' not in page


def test_the_form_is_refused_without_its_token(visit: Visitor, waiting: Run) -> None:
    client = visit("operator")
    client.handler.enforce_csrf_checks = True
    assert move(client, waiting, "decide", **form("repeat", "repeat"))[0] == 403
    waiting.refresh_from_db()
    assert waiting.status == "waiting"


def test_an_undecided_call_is_told_and_changes_nothing(visit: Visitor, waiting: Run) -> None:
    client = visit("operator")
    for given in (form("repeat"), form("maybe", "repeat"), {}, {"call-0": "zz"}):
        _, said = move(client, waiting, "decide", **given)
        assert "undecided" in said
    waiting.refresh_from_db()
    assert waiting.status == "waiting"


def test_a_viewer_sees_the_calls_and_no_form(visit: Visitor, waiting: Run) -> None:
    client = visit("viewer")
    page = page_of(client, waiting)
    assert "s__write" in page
    assert "verdict-0" not in page
    assert move(client, waiting, "decide", **form("repeat", "repeat"))[0] == 403


def test_nothing_in_a_call_becomes_markup(world: World, visit: Visitor) -> None:
    Run.objects.exclude(pk=world.run.pk).delete()
    call: dict[str, Any] = {"call_id": XSS, "tool": XSS, "arguments": {XSS: XSS}, "step": 1}
    page = page_of(visit("operator"), doubt([call | {"index": 0}]))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_a_run_that_has_ended_is_retried_and_linked(world: World, visit: Visitor) -> None:
    client = visit("operator")
    assert "/do/retry/" not in page_of(client, world.run)
    move(client, world.run, "cancel")
    assert "/do/retry/" in page_of(client, world.run)
    assert "/do/retry/" not in page_of(visit("viewer"), world.run)
    _, said = move(client, world.run, "retry")
    again = Run.objects.get(retry_of=world.run)
    assert said == f"Run {again.pk} is queued: a retry of run {world.run.pk}."
    assert f'href="{row_url(world.run)}">run {world.run.pk}</a>' in page_of(client, again)


def test_caps_are_changed_and_lifted_on_the_pages(world: World, visit: Visitor) -> None:
    client = visit("admin")
    assert post(client, row_url(world.own), description="", max_running="4")[0] == 302
    status, page = post(client, row_url(world.own), description="", max_running="0")
    assert (status, "1 to 1000000" in page) == (200, True)
    world.own.refresh_from_db()
    assert world.own.max_running == 4
    assert post(client, row_url(world.own), description="", max_running="")[0] == 302
    world.own.refresh_from_db()
    assert world.own.max_running is None

    version = AgentVersion.objects.get(agent=world.agent)
    given = {"description": "", "prompt": version.prompt, "max_steps": "25",
             "max_running": "2", "concurrency_key": "customer.id",
             "max_running_per_key": "3", "versions-TOTAL_FORMS": "0",
             "versions-INITIAL_FORMS": "0"}  # fmt: skip
    assert post(client, row_url(world.agent), **given)[0] == 302
    world.agent.refresh_from_db()
    caps = (world.agent.max_running, world.agent.concurrency_key, world.agent.max_running_per_key)
    assert caps == (2, "customer.id", 3)
    status, page = post(client, row_url(world.agent), **given | {"concurrency_key": "a b"})
    assert (status, "no path" in page) == (200, True)
    assert AgentVersion.objects.filter(agent=world.agent).count() == 1
