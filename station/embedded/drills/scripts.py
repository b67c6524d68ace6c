"""What the scripted models of drills play, and the tools they call."""

from collections.abc import Mapping
from typing import Any

_WRITES, _LOOKS = "tools__append_keyed", "tools__sleep"
WRITING = frozenset({_WRITES})
DONE: Mapping[str, Any] = {"say": "done", "delay": 0.1}
KINDS = ("answer", "look", "note", "two-notes")


def look(seconds: float) -> dict[str, Any]:
    """A call of the read-only tool, which takes that long."""
    return {"name": _LOOKS, "arguments": {"seconds": seconds}}


def note(*, before: float = 0.0, after: float = 0.0) -> dict[str, Any]:
    """A call of the tool that writes; the seconds it takes before and after its effect."""
    arguments = {"text": "{{input}}", "before": before, "after": after}
    return {"name": _WRITES, "arguments": arguments}


def turn(*calls: Mapping[str, Any], delay: float = 0.1) -> dict[str, Any]:
    """An answer that asks for calls, after so many seconds."""
    return {"tool_calls": list(calls), "delay": delay}


def script(name: str, *turns: Mapping[str, Any]) -> dict[str, Any]:
    """A model of that name; the last turn ends the run."""
    return {"name": name, "turns": list(turns)}


def kinds(seconds: float) -> list[dict[str, Any]]:
    """A model of each of :data:`KINDS`, whose runs take about that long.

    Of a run of ``note`` or ``two-notes``, half the time and more is spent in calls that write.
    """
    part = seconds / 8
    done = {**DONE, "delay": 2 * part}
    return [
        script("answer", {**DONE, "delay": seconds}),
        script("look", turn(look(4 * part), delay=2 * part), done),
        script("note", turn(note(before=2 * part, after=2 * part), delay=2 * part), done),
        script(
            "two-notes",
            turn(note(before=part, after=2 * part), look(3 * part), delay=part),
            turn(look(2 * part), note(before=2 * part, after=part), delay=part),
            {**DONE, "delay": part},
        ),
    ]
