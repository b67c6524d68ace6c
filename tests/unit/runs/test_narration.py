"""A run's events as a person reads them."""

import json
from typing import Any

from runs.narration import JsonNarrator, Narrator, failed, summary
from tests.unit.commands.seats import seat, written


def event(seq: int, kind: str, at: str = "12:00:00", **payload: Any) -> dict[str, Any]:
    return {"seq": seq, "kind": kind, "at": f"2026-01-31T{at}+00:00", "payload": payload}


def answered(step: int, content: str, **changes: Any) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "step": step, "content": content, "tool_calls": [], "model": "openai/gpt-4",
        "input_tokens": 1200, "output_tokens": 34, "cost_usd": "0.00120000", "duration": 1.25,
        "attempts": 1,
    }  # fmt: skip
    return event(10 + step, "model.answered", **(payload | changes))


def told(*items: dict[str, Any] | tuple[int, str], **options: Any) -> str:
    session = seat(**options)
    narrator = Narrator(session)
    for item in items:
        if isinstance(item, tuple):
            narrator.delta(*item)
        else:
            narrator.event(item)
    return written(session.stdout)


def test_a_run_is_told_step_by_step() -> None:
    text = told(
        event(1, "run.submitted", by="alice", door="user"),
        event(2, "run.claimed", worker="host:1"),
        answered(1, "I will look."),
        event(4, "tool.called", tool="machine__load", arguments={"n": 1}, step=1, attempt=1),
        event(5, "tool.returned", tool="machine__load", text="0.2\n0.1", is_error=False,
              duration=0.05, step=1),
        answered(2, "It is idle."),
        event(7, "run.finished", "12:00:03.400000", status="succeeded"),
    )  # fmt: skip
    assert text.splitlines() == [
        "  queued    submitted by alice",
        "  started   by worker host:1",
        "step 1",
        "  I will look.",
        "  model     openai/gpt-4 · 1,200 tokens in, 34 out · $0.0012 · 1.2 s",
        '  call      machine__load {"n": 1}',
        "  result    machine__load: 0.2 0.1 · 50 ms",
        "step 2",
        "  It is idle.",
        "  model     openai/gpt-4 · 1,200 tokens in, 34 out · $0.0012 · 1.2 s",
        "succeeded in 3.4 s · 2 steps · 2,400 tokens in, 68 out · $0.0024",
    ]


def test_text_appears_as_it_streams_and_is_not_told_twice() -> None:
    session = seat()
    narrator = Narrator(session)
    narrator.delta(1, "It ")
    assert written(session.stdout) == "step 1\n  It "
    narrator.delta(1, "is\nidle.")
    narrator.event(answered(1, "It is\nidle. Really."))
    assert written(session.stdout).splitlines()[:3] == ["step 1", "  It is", "  idle. Really."]


def test_text_that_a_retry_made_void_is_told_anew() -> None:
    text = told((1, "It is bu"), answered(1, "It is idle.", attempts=2))
    assert "  It is bu\n" in text
    assert "the whole text is:" in text
    assert "\n  It is idle.\n" in text
    assert "2 attempts" in text


def test_long_arguments_and_results_are_shortened() -> None:
    text = told(
        event(1, "tool.called", tool="t", arguments={"a": "x" * 5000}, attempt=1),
        event(2, "tool.returned", tool="t", text="y" * 5000, is_error=True),
        width=80,
    )
    assert max(map(len, text.splitlines())) < 200
    assert "  error     t: yyy" in text


def test_a_failure_says_why() -> None:
    error = {"code": "max_steps_reached", "message": "The agent used its 3 steps."}
    text = told(event(1, "run.finished", status="failed", error=error))
    assert "  error     The agent used its 3 steps. (max_steps_reached)\nfailed in" in text


PUT_OFF = event(
    3, "run.released", reason="retry", retry=1, at_most=3, delay=10.4,
    error={"code": "model_unavailable", "message": "m: nobody answers"},
)  # fmt: skip


def test_a_run_that_is_put_off_says_why_and_for_how_long() -> None:
    assert told(PUT_OFF).splitlines() == [
        "  requeued  after model_unavailable, retry 1 of 3 in 10 s",
        "            m: nobody answers",
    ]
    assert summary(PUT_OFF, 80) == "after model_unavailable, retry 1 of 3 in 10 s"
    assert failed(PUT_OFF["kind"], PUT_OFF["payload"])
    handed_back = event(3, "run.released", reason="drained")
    assert told(handed_back) == "  requeued  its worker is shutting down\n"
    assert not failed(handed_back["kind"], handed_back["payload"])


def test_a_wait_names_the_calls_in_doubt() -> None:
    calls = [
        {"call_id": name, "tool": "mail__send", "arguments": {"to": name * 2}} for name in "ab"
    ]
    waiting = event(1, "run.waiting", reason="doubt", calls=calls)
    first, *rest = told(waiting).splitlines()
    assert "a person has to decide" in first
    assert rest == [
        '            a mail__send {"to": "aa"}',
        '            b mail__send {"to": "bb"}',
    ]
    told_in_a_line = 'in doubt: a mail__send {"to": "aa"}, b mail__send {"to": "bb"}'
    assert summary(waiting, 80) == told_in_a_line


def test_an_event_of_a_newer_station_is_told_too() -> None:
    assert "run.teleported  to: mars" in told(event(1, "run.teleported", to="mars"))


def test_what_models_and_tools_say_cannot_steer_the_terminal() -> None:
    text = told(
        (1, "a\x1b[2J"),
        answered(1, "a\x1b[2Jb"),
        event(2, "tool.returned", tool="t\x1b", text="\x9b31m", is_error=False),
        event(3, "run.finished", status="cancelled", by="\x1bme"),
    )
    assert "\x1b" not in text
    assert "\x9b" not in text


def test_there_is_colour_only_where_it_is_wanted() -> None:
    finished = event(1, "run.finished", status="succeeded")
    assert "\x1b[" in told(finished, color=True)
    assert "\x1b[" not in told(finished)


def test_as_json_every_line_is_one_object() -> None:
    session = seat()
    narrator = JsonNarrator(session)
    narrator.delta(1, "a\nb")
    narrator.event(event(1, "run.finished", status="succeeded"))
    first, second = map(json.loads, written(session.stdout).splitlines())
    assert first == {"delta": "a\nb", "step": 1}
    assert second == event(1, "run.finished", status="succeeded")


def test_a_summary_is_one_line() -> None:
    assert summary(answered(1, "It\nis idle."), 80) == "It is idle."
    calls = [{"name": "a__b", "id": "1", "arguments": "{}"}]
    assert summary(answered(1, "", tool_calls=calls), 80) == "asks for a__b"
    error = {"message": "Too slow."}
    assert summary(event(1, "run.finished", status="failed", error=error), 80) == (
        "failed: Too slow."
    )
    assert len(summary(event(1, "tool.returned", tool="t", text="x" * 500), 80)) == 80
