"""A run told to a person, step by step, while it happens or afterwards.

It takes events in their public form (:func:`runs.bus.event_json`), so whoever has them, from the
journal, from Valkey or from a REST stream, can tell them.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from runs.entries import Kind
from runs.states import Status
from station.commands.rendering import paint, status
from station.commands.session import Session
from station.commands.text import count, dollars, duration, one_line, printable, to_json

_INDENT = "  "
_LABEL = 8
_SHORTEST_CUT = 160
_MOST_REMEMBERED = 1024 * 1024
_QUIET = "dim"
_REASONS = {
    "lease_expired": "its worker fell silent",
    "drained": "its worker is shutting down",
    "model_unavailable": "it waits for the model provider",
    "doubt": "nobody knows whether these calls happened; a person has to decide "
    "(`station run decide`)",
}


class Narrator:
    """Prints a run's events to a session; text of the model appears as it arrives."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._cut = max(2 * session.width, _SHORTEST_CUT)
        self._step = 0
        self._spoken: list[str] = []
        self._spoken_length = 0
        self._line_open = False
        self._began: datetime | None = None
        self._tokens = [0, 0]
        self._cost: Decimal | None = None
        self._tell: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
            Kind.SUBMITTED: lambda p: self._line("queued", f"submitted by {p.get('by', '?')}"),
            Kind.CLAIMED: lambda p: self._line("started", f"by worker {p.get('worker', '?')}"),
            Kind.RELEASED: self._released,
            Kind.WAITING: self._waiting,
            Kind.DECIDED: lambda p: self._line("decided", _rest(p)),
            Kind.CANCEL_REQUESTED: lambda p: self._line("stopping", f"asked by {p.get('by', '?')}"),
            Kind.MODEL_RETRIED: self._retried,
            Kind.MODEL_ANSWERED: self._answered,
            Kind.TOOL_CALLED: self._called,
            Kind.TOOL_RETURNED: self._returned,
            Kind.OUTPUT_REJECTED: lambda p: self._line(
                "rejected",
                f"the answer does not match its schema: {p.get('problem', '')}",
                "yellow",
            ),
        }

    def delta(self, step: int, text: str) -> None:
        """A piece of what the model is saying in ``step``."""
        self._open_step(step)
        if self._spoken_length < _MOST_REMEMBERED:
            self._spoken.append(text)
        self._spoken_length += len(text)
        self._say(text)
        self._session.stdout.flush()

    def event(self, event: Mapping[str, Any]) -> None:
        """A journaled event: ``seq``, ``kind``, ``at`` (ISO 8601) and ``payload``."""
        at = datetime.fromisoformat(event["at"])
        self._began = self._began or at
        kind, payload = event["kind"], event["payload"]
        if kind == Kind.FINISHED:
            self._finished(payload, (at - self._began).total_seconds())
        else:
            tell = self._tell.get(kind)
            if tell is None:  # a kind that a newer Station made
                self._line(kind, _rest(payload))
            else:
                tell(payload)
        self._session.stdout.flush()

    # The model

    def _open_step(self, step: int) -> None:
        if step != self._step:
            self._end_line()
            self._step, self._spoken, self._spoken_length = step, [], 0
            self._session.stdout.write(paint(self._session, f"step {step}", "bold") + "\n")

    def _say(self, text: str) -> None:
        stream = self._session.stdout
        for index, line in enumerate(printable(text).split("\n")):
            if index:
                stream.write("\n")
                self._line_open = False
            if line:
                stream.write(line if self._line_open else _INDENT + line)
                self._line_open = True

    def _answered(self, payload: Mapping[str, Any]) -> None:
        self._open_step(payload["step"])
        content, spoken = payload["content"], "".join(self._spoken)
        if self._spoken_length > _MOST_REMEMBERED or not content.startswith(spoken):
            self._end_line()
            self._line("again", "the pieces above are void; the whole text is:", _QUIET)
            spoken = ""
        self._say(content[len(spoken) :])
        self._end_line()
        self._spoken, self._spoken_length = [], 0
        self._add_up(payload)
        tokens = f"{payload['input_tokens']:,} tokens in, {payload['output_tokens']:,} out"
        parts = [payload["model"], tokens]
        if payload.get("cost_usd") is not None:
            parts.append(dollars(payload["cost_usd"]))
        parts.append(duration(payload["duration"]))
        if payload.get("attempts", 1) > 1:
            parts.append(count(payload["attempts"], "attempt"))
        self._line("model", " · ".join(parts), _QUIET)

    def _add_up(self, payload: Mapping[str, Any]) -> None:
        self._tokens[0] += payload["input_tokens"]
        self._tokens[1] += payload["output_tokens"]
        if payload.get("cost_usd") is not None:
            self._cost = (self._cost or Decimal(0)) + Decimal(payload["cost_usd"])

    def _retried(self, payload: Mapping[str, Any]) -> None:
        wait = payload.get("wait") or 0
        again = f"again in {duration(wait)}" if wait else "the next model is asked"
        self._line("retry", f"{payload.get('message', '')} ({again})", "yellow")

    # Tools

    def _called(self, payload: Mapping[str, Any]) -> None:
        again = f" (attempt {payload['attempt']})" if payload.get("attempt", 1) > 1 else ""
        arguments = one_line(to_json(payload.get("arguments") or {}), self._cut)
        self._line("call", f"{payload['tool']} {arguments}{again}", "cyan")

    def _returned(self, payload: Mapping[str, Any]) -> None:
        failed = payload.get("is_error", False)
        seconds = payload.get("duration")
        took = "" if seconds is None else f" · {duration(seconds)}"
        text = one_line(payload.get("text", ""), self._cut) or "(nothing)"
        self._line("error" if failed else "result", f"{payload['tool']}: {text}{took}",
                   "red" if failed else "")  # fmt: skip

    # The run

    def _released(self, payload: Mapping[str, Any]) -> None:
        self._line("requeued", _reason(payload))
        if message := (payload.get("error") or {}).get("message"):
            self._line("", message, "yellow")

    def _waiting(self, payload: Mapping[str, Any]) -> None:
        self._line("waiting", _reason(payload), "yellow")
        for call in payload.get("calls", ()):
            self._line("", one_line(_call(call), self._cut), "yellow")

    def _finished(self, payload: Mapping[str, Any], seconds: float) -> None:
        self._end_line()
        error = payload.get("error")
        if error:
            self._line("error", f"{error.get('message', '')} ({error.get('code', '')})", "red")
        if payload.get("by"):
            self._line("stopped", f"by {payload['by']}")
        shown = status(payload["status"])
        parts = [f" in {duration(seconds)}"]
        if self._step:
            parts.append(count(self._step, "step"))
            parts.append(f"{self._tokens[0]:,} tokens in, {self._tokens[1]:,} out")
        if self._cost is not None:
            parts.append(dollars(self._cost))
        state = paint(self._session, shown.text.replace("_", " "), f"bold {shown.style}".strip())
        self._session.stdout.write(f"{state}{' · '.join(parts)}\n")

    def _line(self, label: str, text: str, style: str = "") -> None:
        self._end_line()
        text = paint(self._session, one_line(text, 4 * self._cut), style)
        self._session.stdout.write(f"{_INDENT}{label:<{_LABEL}}  {text}\n")

    def _end_line(self) -> None:
        if self._line_open:
            self._session.stdout.write("\n")
            self._line_open = False


class JsonNarrator:
    """Prints a run's events and deltas as JSON, one object a line."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def delta(self, step: int, text: str) -> None:
        self._write({"delta": text, "step": step})

    def event(self, event: Mapping[str, Any]) -> None:
        self._write(event)

    def _write(self, value: Mapping[str, Any]) -> None:
        self._session.stdout.write(to_json(value) + "\n")
        self._session.stdout.flush()


def summary(event: Mapping[str, Any], most: int) -> str:
    """An event in one line of at most ``most`` characters, for logs."""
    payload = event["payload"]
    match event["kind"]:
        case Kind.MODEL_ANSWERED:
            names = ", ".join(call["name"] for call in payload["tool_calls"])
            text = payload["content"] or (f"asks for {names}" if names else "(nothing)")
        case Kind.TOOL_CALLED:
            text = f"{payload['tool']} {to_json(payload.get('arguments') or {})}"
        case Kind.TOOL_RETURNED:
            text = f"{payload['tool']}: {payload.get('text', '')}"
        case Kind.FINISHED:
            error = payload.get("error") or {}
            text = ": ".join(filter(None, [payload["status"], error.get("message")]))
        case Kind.SUBMITTED:
            text = f"by {payload.get('by', '?')}"
        case Kind.RELEASED:
            text = _reason(payload)
        case Kind.WAITING if payload.get("calls"):
            text = f"in {payload.get('reason')}: {', '.join(map(_call, payload['calls']))}"
        case _:
            text = _rest(payload)
    return one_line(text, most)


def failed(kind: str, payload: Mapping[str, Any]) -> bool:
    """Whether an event tells of something going wrong."""
    if kind == Kind.FINISHED:
        return bool(payload["status"] != Status.SUCCEEDED)
    return kind == Kind.MODEL_RETRIED or bool(payload.get("is_error") or payload.get("error"))


def put_off(payload: Mapping[str, Any]) -> str:
    """Why and for how long a run was put off by its agent's retry policy."""
    code = (payload.get("error") or {}).get("code", "?")
    which = f"retry {payload.get('retry', '?')} of {payload.get('at_most', '?')}"
    return f"after {code}, {which} in {duration(payload.get('delay') or 0)}"


def _reason(payload: Mapping[str, Any]) -> str:
    reason = str(payload.get("reason", ""))
    if reason == "retry":
        return put_off(payload)
    words = _REASONS.get(reason, reason)
    return f"{words}: {payload['problem']}" if payload.get("problem") else words


def _call(call: Mapping[str, Any]) -> str:
    arguments = to_json(call.get("arguments") or {})
    return f"{call.get('call_id', '?')} {call.get('tool', '?')} {arguments}"


def _rest(payload: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in payload.items())
