"""A journal as a page shows it: one step an event, long texts cut, nothing trusted."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from runs.entries import Kind
from runs.models import RunEvent
from runs.narration import put_off
from runs.states import Status
from station.commands.text import count, dollars, duration, printable

_CUT = 600
_CUT_LINES = 12
_LONGEST = 50_000
"""More of one text is not on the page; the event's own page has it."""

TONES = {
    Status.SUCCEEDED: "success",
    Status.FAILED: "danger",
    Status.TIMED_OUT: "danger",
    Status.CANCELLED: "warning",
    Status.WAITING: "warning",
    Status.RUNNING: "info",
    Status.QUEUED: "primary",
}
_REASONS = {
    "lease_expired": "its worker fell silent",
    "drained": "its worker is shutting down",
    "doubt": "nobody knows whether a call happened; a person has to decide",
}
_DECISIONS = {
    "happened": "it happened",
    "repeat": "it is to be repeated",
    "stop": "the run is to stop",
}


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text of a step: its beginning, and the whole where that is more."""

    label: str
    beginning: str
    whole: str = ""
    size: int = 0
    left_out: bool = False
    folded: bool = False
    """Shown only when asked for."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """An event, ready to be shown. ``offset`` is the time since the run was submitted."""

    seq: int
    kind: str
    at: datetime
    offset: str
    icon: str
    tone: str
    title: str
    facts: tuple[str, ...] = ()
    texts: tuple[Text, ...] = ()
    event_id: str = ""


@dataclass(frozen=True, kw_only=True)
class _Told:
    icon: str
    title: str
    tone: str = ""
    facts: tuple[str, ...] = ()
    texts: tuple[Text, ...] = ()


def steps(events: Iterable[RunEvent], began: datetime) -> list[Step]:
    """The events as steps; an event that cannot be told in words is shown as it is stored."""
    return [_step(event, began) for event in events]


def _step(event: RunEvent, began: datetime) -> Step:
    tell = _TELL.get(event.kind, _unknown)
    try:
        told = tell(event.payload)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
        told = _unknown(event.payload)  # written by another release
    return Step(
        seq=event.seq,
        kind=event.kind,
        at=event.at,
        offset=duration(max((event.at - began).total_seconds(), 0)),
        icon=told.icon,
        tone=told.tone,
        title=told.title or event.kind,
        facts=told.facts,
        texts=told.texts,
        event_id=str(event.pk),
    )


def text(label: str, value: str, *, folded: bool = False) -> Text:
    """A text, cut after some lines."""
    shown = printable(value)
    beginning = "\n".join(shown[:_CUT].split("\n")[:_CUT_LINES])
    whole = shown[:_LONGEST] if len(beginning) < len(shown) else ""
    return Text(
        label=label,
        beginning=beginning,
        whole=whole,
        size=len(shown),
        left_out=len(shown) > _LONGEST,
        folded=folded,
    )


def pretty(value: Any) -> str:
    """A JSON value over several lines; a text that holds JSON is taken as that."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return str(value)
    return json.dumps(value, indent=2, ensure_ascii=False)


def _unknown(payload: Mapping[str, Any]) -> _Told:
    return _Told(icon="help", title="", texts=(text("payload", pretty(payload), folded=True),))


def _submitted(payload: Mapping[str, Any]) -> _Told:
    return _Told(icon="inbox", title=f"Submitted by {payload['by']}")


def _claimed(payload: Mapping[str, Any]) -> _Told:
    return _Told(icon="play_arrow", title="Started", tone="info", facts=(payload["worker"],))


def _released(payload: Mapping[str, Any]) -> _Told:
    error = payload.get("error")
    texts = (text(error["code"], error["message"]),) if error else ()
    return _Told(icon="replay", title="Back in the queue", tone="warning",
                 facts=_reason(payload), texts=texts)  # fmt: skip


def _waiting(payload: Mapping[str, Any]) -> _Told:
    calls = payload.get("calls") or ()
    texts = tuple(
        text(f"call of {call.get('tool', '?')}", pretty(call.get("arguments") or {}))
        for call in calls
    )
    return _Told(icon="hourglass_top", title="Waits for a person", tone="warning",
                 facts=_reason(payload), texts=texts)  # fmt: skip


def _decided(payload: Mapping[str, Any]) -> _Told:
    said = _DECISIONS.get(payload["decision"], payload["decision"])
    texts = tuple(text(name, payload[name]) for name in ("result", "why") if payload.get(name))
    facts = (f"by {payload['by']}",) if payload.get("by") else ()
    return _Told(icon="how_to_vote", title=f"Call {payload['call_id']}: {said}",
                 facts=facts, texts=texts)  # fmt: skip


def _cancel_requested(payload: Mapping[str, Any]) -> _Told:
    return _Told(icon="front_hand", title=f"{payload['by']} asked it to stop", tone="warning")


def _finished(payload: Mapping[str, Any]) -> _Told:
    status = Status(payload["status"])
    error = payload.get("error") or {}
    facts: tuple[str, ...] = (f"by {payload['by']}",) if payload.get("by") else ()
    if error.get("reference"):
        facts += (f"reference {error['reference']}",)
    texts = (text(error.get("code", "error"), error.get("message", "")),) if error else ()
    icon = "check_circle" if status is Status.SUCCEEDED else "cancel"
    title = status.value.replace("_", " ").capitalize()
    return _Told(icon=icon, title=title, tone=TONES[status], facts=facts, texts=texts)


def _answered(payload: Mapping[str, Any]) -> _Told:
    calls = payload["tool_calls"]
    facts = [
        payload["model"],
        f"{payload['input_tokens']:,} tokens in, {payload['output_tokens']:,} out",
    ]
    if payload.get("cost_usd") is not None:
        facts.append(dollars(payload["cost_usd"]))
    facts.append(duration(payload["duration"]))
    if payload.get("attempts", 1) > 1:
        facts.append(count(payload["attempts"], "attempt"))
    texts = [text("", payload["content"])] if payload["content"].strip() else []
    if calls:
        names = ", ".join(call["name"] for call in calls)
        asked = "\n\n".join(f"{call['name']}\n{pretty(call['arguments'])}" for call in calls)
        texts.append(text(f"asks for {names}", asked, folded=True))
    return _Told(icon="neurology", title=f"Model, step {payload['step']}", tone="primary",
                 facts=tuple(facts), texts=tuple(texts))  # fmt: skip


def _retried(payload: Mapping[str, Any]) -> _Told:
    wait = payload.get("wait") or 0
    again = f"again in {duration(wait)}" if wait else "the next model is asked"
    texts = (text(payload.get("code", ""), payload["message"]),)
    return _Told(icon="sync_problem", title="The model did not answer", tone="warning",
                 facts=(again,), texts=texts)  # fmt: skip


def _called(payload: Mapping[str, Any]) -> _Told:
    attempt = payload.get("attempt", 1)
    facts = (f"attempt {attempt}",) if attempt > 1 else ()
    arguments = payload.get("arguments") or {}
    texts = (text("arguments", pretty(arguments)),) if arguments else ()
    return _Told(icon="build", title=f"Calls {payload['tool']}", facts=facts, texts=texts)


def _returned(payload: Mapping[str, Any]) -> _Told:
    failed = bool(payload.get("is_error"))
    seconds = payload.get("duration")
    facts: tuple[str, ...] = () if seconds is None else (duration(seconds),)
    if payload.get("truncated"):
        facts += ("cut at the output limit",)
    said = payload.get("text") or "(nothing)"
    return _Told(icon="error" if failed else "task_alt", tone="danger" if failed else "success",
                 title=f"{payload['tool']} {'failed' if failed else 'returned'}",
                 facts=facts, texts=(text("error" if failed else "result", said),))  # fmt: skip


def _rejected(payload: Mapping[str, Any]) -> _Told:
    return _Told(icon="rule", title="The answer does not match its schema", tone="warning",
                 texts=(text("problem", payload["problem"]),))  # fmt: skip


def _reason(payload: Mapping[str, Any]) -> tuple[str, ...]:
    reason = str(payload.get("reason", ""))
    if reason == "retry":
        return (put_off(payload),)
    return (_REASONS.get(reason, reason),) if reason else ()


_TELL: Mapping[str, Callable[[Mapping[str, Any]], _Told]] = {
    Kind.SUBMITTED: _submitted,
    Kind.CLAIMED: _claimed,
    Kind.RELEASED: _released,
    Kind.WAITING: _waiting,
    Kind.DECIDED: _decided,
    Kind.CANCEL_REQUESTED: _cancel_requested,
    Kind.FINISHED: _finished,
    Kind.MODEL_ANSWERED: _answered,
    Kind.MODEL_RETRIED: _retried,
    Kind.TOOL_CALLED: _called,
    Kind.TOOL_RETURNED: _returned,
    Kind.OUTPUT_REJECTED: _rejected,
}
