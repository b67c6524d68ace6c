"""Hand-made journals: a healthy one, and what it is made of."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from station.embedded.drills.history import Effect, Happening, RunRecord

Step = tuple[str, dict[str, Any]]
START = datetime(2026, 1, 1, tzinfo=UTC)
WRITES = "tools__append_keyed"
ID = 7
CALL = {"step": 1, "index": 0, "call_id": "call_1_0", "tool": WRITES}
SUBMITTED: Step = ("run.submitted", {})
ANSWERED: Step = ("model.answered", {"step": 1})
CONCLUDED: Step = ("model.answered", {"step": 2})
CALLED: Step = ("tool.called", {**CALL, "attempt": 1})
RETURNED: Step = ("tool.returned", {**CALL, "is_error": False})
EXPIRED: Step = ("run.released", {"reason": "lease_expired"})
DRAINED: Step = ("run.released", {"reason": "drained"})
WAITING: Step = ("run.waiting", {"reason": "doubt"})


def claimed(pid: int = 100) -> Step:
    return ("run.claimed", {"worker": f"host:{pid}:abc"})


def decided(decision: str) -> Step:
    return ("run.decided", {"call_id": "call_1_0", "decision": decision})


def ended(status: str = "succeeded") -> Step:
    return ("run.finished", {"status": status})


CLAIMED, FINISHED = claimed(), ended()
ANSWER_ONLY = [SUBMITTED, CLAIMED, ANSWERED, FINISHED]
HEALTHY = [SUBMITTED, CLAIMED, ANSWERED, CALLED, RETURNED, CONCLUDED, FINISHED]


def in_doubt(decision: str, *, first: int = 100) -> list[Step]:
    """Worker ``first`` died with a call under way, and a person decided about it."""
    start = [SUBMITTED, claimed(first), ANSWERED, CALLED, EXPIRED, CLAIMED, WAITING]
    again = [CALLED, RETURNED] if decision == "repeat" else []
    return [*start, decided(decision), CLAIMED, *again, CONCLUDED, FINISHED]


def without(run: RunRecord, *kinds: str) -> RunRecord:
    """The run with its row, but without its journal's entries of these kinds."""
    return replace(run, journal=[each for each in run.journal if each.kind not in kinds])


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def record(
    entries: Iterable[Step] = HEALTHY, *, run_id: int = ID, gap: float = 1.0, **changes: Any
) -> RunRecord:
    """A run whose entries came ``gap`` seconds after one another, the first at START."""
    journal = [
        Happening(seq=number, kind=kind, at=after(gap * (number - 1)), payload=payload)
        for number, (kind, payload) in enumerate(entries, start=1)
    ]
    made = RunRecord(
        run_id=run_id,
        status="succeeded",
        fence=sum(each.kind == "run.claimed" for each in journal),
        last_seq=len(journal),
        steps=sum(each.kind == "model.answered" for each in journal),
        journal=journal,
    )
    return replace(made, **changes)


def effect(second: float = 3.5, key: str = f"{ID}:1:0") -> Effect:
    return Effect(key=key, at=after(second))
