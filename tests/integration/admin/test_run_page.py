"""The page of a run tells its journal: whole, readable, page by page, and nothing in it runs."""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from runs import journal, queue, transitions
from runs.entries import Entry, Kind
from runs.models import Run, RunEvent
from runs.states import Status
from station.accounts.admin.base import row_url
from tests.integration.admin.conftest import Visitor
from tests.integration.admin.pages import address, page_of, text_of
from tests.integration.api.world import World

XSS = "<script>alert('x')</script><img src=x onerror=alert(1)>"
ANSWER = {
    "step": 1, "content": f"I look. {XSS}", "model": XSS, "finish_reason": "tool_calls",
    "tool_calls": [{"id": "c1", "name": XSS, "arguments": '{"folder": "/srv"}'}],
    "input_tokens": 1200, "output_tokens": 30, "cached_tokens": 0, "cost_usd": "0.0125",
    "duration": 1.25, "attempts": 2,
}  # fmt: skip
STEPS = [
    Entry(kind=Kind.MODEL_RETRIED, payload={"step": 1, "code": "overloaded", "message": XSS}),
    Entry(kind=Kind.MODEL_ANSWERED, payload=ANSWER),
    Entry(kind=Kind.TOOL_CALLED, payload={"tool": XSS, "arguments": {"folder": XSS}}),
    Entry(
        kind=Kind.TOOL_RETURNED,
        payload={"tool": XSS, "text": XSS, "is_error": True, "duration": 0.5},
    ),
    Entry(kind=Kind.OUTPUT_REJECTED, payload={"problem": XSS}),
]


@pytest.fixture
def running(world: World) -> Run:
    assert queue.claim("worker-1", 60.0) is not None
    world.run.refresh_from_db()
    return world.run


def append(run: Run, entries: Sequence[Entry]) -> None:
    journal.append(run.pk, run.fence, entries)
    run.refresh_from_db()


def test_a_finished_run_shows_its_steps_its_error_and_its_reference(
    visit: Visitor, running: Run
) -> None:
    append(running, STEPS)
    error = ("errored", "It broke.", "ref-4711")
    assert transitions.finish(running.pk, running.fence, Status.FAILED, error=error)
    page = page_of(visit("viewer"), running)
    for told in ("It broke.", "ref-4711", "Model, step 1", "1,200 tokens in, 30 out", "$0.0125",
                 "2 attempts", "&quot;folder&quot;: &quot;/srv&quot;", "worker-1"):  # fmt: skip
        assert told in page, told
    assert all(f'id="seq-{seq}"' in page for seq in range(1, 9))


def test_a_run_that_was_put_off_says_how_often_and_why(visit: Visitor, running: Run) -> None:
    error = ("model_unavailable", f"Nobody answers. {XSS}")
    assert transitions.retry_later(
        running.pk, running.fence, error=error, retry=1, at_most=3, delay=3600
    )
    page = page_of(visit("viewer"), running)
    assert "after model_unavailable, retry 1 of 3 in 1 h 00 m" in page
    assert "Nobody answers. &lt;script&gt;" in page
    assert "It is held back until" in page
    assert re.search(r"Retries\s*<[^1]*>\s*1\s*<", page)


def test_nothing_in_a_run_becomes_markup(visit: Visitor, running: Run) -> None:
    Run.objects.filter(pk=running.pk).update(input=XSS)
    append(running, STEPS)
    error = (XSS[:60], XSS, XSS[:30])
    assert transitions.finish(
        running.pk, running.fence, Status.FAILED, error=error, output=XSS, output_data={"a": XSS}
    )
    event = RunEvent.objects.get(run=running, seq=4)
    client = visit("viewer")
    for page in (
        page_of(client, running),
        page_of(client, event),
        text_of(client, address("run")),
        text_of(client, address("event"), run=str(running.pk)),
        text_of(client, "/admin/"),
    ):
        assert "<script>alert" not in page
        assert "<img src=x" not in page
    assert "&lt;script&gt;alert" in page_of(client, running)


def test_a_payload_of_another_shape_is_shown_as_it_is(visit: Visitor, running: Run) -> None:
    odd: list[Any] = [{}, {"step": None, "content": 5, "tool_calls": 7}, {"tool_calls": [1]}]
    append(running, [Entry(kind=kind, payload=payload) for payload in odd for kind in Kind])
    assert "model.answered" in page_of(visit("viewer"), running)


def test_a_long_journal_comes_in_pages(visit: Visitor, running: Run) -> None:
    called = [Entry(kind=Kind.TOOL_CALLED, payload={"tool": f"t{n}"}) for n in range(450)]
    append(running, called)
    client = visit("viewer")
    first = text_of(client, row_url(running))
    assert "page 1 of 3" in first
    assert 'id="seq-200"' in first
    assert 'id="seq-201"' not in first
    last = text_of(client, row_url(running), page="3")
    assert 'id="seq-401"' in last
    assert 'id="seq-452"' in last
    for junk in ("0", "-1", "x", "9" * 40, "99"):
        assert "of 3" in text_of(client, row_url(running), page=junk)


def test_a_long_text_is_cut_and_can_be_unfolded(visit: Visitor, running: Run) -> None:
    long = "word " * 20_000
    append(running, [Entry(kind=Kind.TOOL_RETURNED, payload={"tool": "t", "text": long})])
    page = page_of(visit("viewer"), running)
    assert '<details class="st-cut">' in page
    assert "all 100000 characters" in page
    assert page.count("word ") < 12_000


def test_the_admin_asks_no_other_host_for_anything(world: World, visit: Visitor) -> None:
    client = visit("platform")
    for path in ("/admin/", address("run"), row_url(world.run), row_url(world.agent)):
        page = text_of(client, path)
        for attribute in ('src="http', 'href="http', 'src="//', 'href="//', "@import"):
            assert attribute not in page, (path, attribute)


def test_what_station_adds_to_pages_has_no_inline_script_or_style(
    world: World, visit: Visitor
) -> None:
    page = page_of(visit("platform"), world.run)
    ours = page[page.index('class="st-moves"') : page.index("st-timeline")]
    for word in ("<script", "style=", "onclick=", "x-data"):
        assert word not in ours, word
