"""The history checker: reads what happened and names each broken promise. Pure.

It knows nothing of how Station works: it holds the journals, the rows and the effects that the
tool server counted against the guarantees of ``docs/guarantees.md``.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

TERMINAL = frozenset({"succeeded", "failed", "timed_out", "cancelled"})
_WORK = frozenset(
    {"model.answered", "model.retried", "tool.called", "tool.returned", "output.rejected"}
)
_CLOCKS = 0.25
"""Seconds by which the tool server's clock may be ahead of the database's."""


@dataclass(frozen=True, kw_only=True)
class Happening:
    """An entry of a journal."""

    seq: int
    kind: str
    at: datetime
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The row of a run and its journal, ordered by ``seq``."""

    run_id: int
    status: str
    fence: int
    last_seq: int
    journal: Sequence[Happening]
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Something the tool server did, with the key of the call that asked for it."""

    key: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One broken promise. ``name`` is stable."""

    name: str
    run_id: int
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: run {self.run_id}: {self.detail}"


def check(
    runs: Sequence[RunRecord],
    effects: Sequence[Effect],
    *,
    writing: frozenset[str],
    submitted: frozenset[int] = frozenset(),
) -> list[Violation]:
    """Every violation in the history.

    Args:
        runs: all rows with their journals.
        effects: what the tools did, each under ``run:step:index``.
        writing: the model's names of the tools that have an effect each time they are called.
        submitted: the runs whose submission was acknowledged.
    """
    known = {run.run_id for run in runs}
    by_run: dict[str, list[Effect]] = defaultdict(list)
    for effect in effects:
        by_run[effect.key.partition(":")[0]].append(effect)
    found = [
        Violation(name="lost_run", run_id=run_id, detail="acknowledged, and there is no row")
        for run_id in sorted(submitted - known)
    ]
    for run in runs:
        found += _journal(run)
        found += _life(run)
        found += _effects(run, by_run.pop(str(run.run_id), []), writing)
    found += [
        Violation(name="effect_without_intent", run_id=0, detail=f"{effect.key!r} is of no run")
        for strays in by_run.values()
        for effect in strays
    ]
    return found


def _journal(run: RunRecord) -> Iterator[Violation]:
    """Numbers without gaps, one ending, nothing behind it."""
    numbers = [each.seq for each in run.journal]
    if numbers != list(range(1, run.last_seq + 1)):
        yield Violation(
            name="gap_in_journal",
            run_id=run.run_id,
            detail=f"numbers {_shown(numbers)}, the row says {run.last_seq}",
        )
    ends = [each.seq for each in run.journal if each.kind == "run.finished"]
    if len(ends) > 1:
        yield Violation(
            name="two_terminal_events", run_id=run.run_id, detail=f"numbers {_shown(ends)}"
        )
    if ends and (after := [number for number in numbers if number > ends[0]]):
        yield Violation(
            name="event_after_the_end", run_id=run.run_id, detail=f"numbers {_shown(after)}"
        )
    waits = bool(run.journal) and run.journal[-1].kind == "run.waiting"
    if run.status not in TERMINAL and not (run.status == "waiting" and waits):
        yield Violation(name="lost_run", run_id=run.run_id, detail=f"it is {run.status} for ever")
    if (run.status in TERMINAL) != bool(ends):
        yield Violation(
            name="row_differs_from_journal",
            run_id=run.run_id,
            detail=f"the row is {run.status}, the journal has {len(ends)} ending(s)",
        )


def _life(run: RunRecord) -> Iterator[Violation]:
    """One owner at a time, each with a fence of its own; work only by an owner."""
    state = "queued"
    for each in run.journal:
        match each.kind:
            case "run.claimed":
                if state != "queued":
                    yield Violation(
                        name="two_owners", run_id=run.run_id, detail=f"{each.seq}: claimed {state}"
                    )
                state = "running"
            case "run.released" | "run.decided":
                state = "queued"
            case "run.waiting":
                state = "waiting"
            case kind if kind in _WORK and state != "running":
                yield Violation(
                    name="work_without_owner",
                    run_id=run.run_id,
                    detail=f"{each.seq}: {kind} while {state}",
                )
    claims = sum(each.kind == "run.claimed" for each in run.journal)
    if claims != run.fence:
        yield Violation(
            name="claim_without_fence",
            run_id=run.run_id,
            detail=f"{claims} claims, but the fence is {run.fence}",
        )


@dataclass(kw_only=True)
class _Calls:
    """What the journal of a run says of its calls of writing tools, by key."""

    announced: dict[str, datetime] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    """They had their effect: the tool or a person said so."""
    repeats: Counter[str] = field(default_factory=Counter)
    """How often a person had the call repeated."""


def _calls(run: RunRecord, writing: frozenset[str]) -> _Calls:
    calls = _Calls()
    keys: dict[str, str] = {}
    for each in run.journal:
        payload = each.payload
        if each.kind == "run.decided" and payload.get("call_id") in keys:
            key = keys[payload["call_id"]]
            calls.repeats[key] += payload["decision"] == "repeat"
            if payload["decision"] == "happened":
                calls.done.add(key)
        elif payload.get("tool") in writing:
            key = f"{run.run_id}:{payload['step']}:{payload['index']}"
            if each.kind == "tool.called":
                calls.announced.setdefault(key, each.at)
                keys[payload["call_id"]] = key
            elif each.kind == "tool.returned" and not payload["is_error"]:
                calls.done.add(key)
    return calls


def _effects(
    run: RunRecord, effects: Sequence[Effect], writing: frozenset[str]
) -> Iterator[Violation]:
    """No effect unannounced, none twice without a person, none missing from a success."""
    calls = _calls(run, writing)
    counts = Counter(effect.key for effect in effects)
    for key, count in counts.items():
        if count > 1 + calls.repeats[key]:
            yield Violation(
                name="effect_repeated",
                run_id=run.run_id,
                detail=f"{key} happened {count} times, people asked for {calls.repeats[key]} more",
            )
    for effect in effects:
        intent = calls.announced.get(effect.key)
        if intent is None or (intent - effect.at).total_seconds() > _CLOCKS:
            yield Violation(
                name="effect_without_intent",
                run_id=run.run_id,
                detail=f"{effect.key} happened before the journal announced it",
            )
    if run.status == "succeeded":
        for key in sorted((calls.done | calls.announced.keys()) - counts.keys()):
            yield Violation(
                name="success_without_effect", run_id=run.run_id, detail=f"{key} never happened"
            )


@dataclass(frozen=True, kw_only=True)
class Reclaim:
    """Seconds from a worker's death until a run it held was free, and until it was claimed."""

    freed: float
    claimed: float


def reclaims(runs: Sequence[RunRecord], kills: Sequence[tuple[int, datetime]]) -> list[Reclaim]:
    """How long each run of a worker that died waited for the next one.

    ``kills`` are process ids and times. Runs that their keeper gave up are left out.
    """
    deaths: dict[str, list[datetime]] = defaultdict(list)
    for pid, at in kills:
        deaths[str(pid)].append(at)
    found = []
    for run in runs:
        claims = [each for each in run.journal if each.kind == "run.claimed"]
        for claim, following in pairwise(claims):
            owner = str(claim.payload["worker"]).split(":")[-2]
            between = [each for each in run.journal if claim.seq < each.seq < following.seq]
            freed = [
                each.at
                for each in between
                if each.kind == "run.released" and each.payload.get("reason") == "lease_expired"
            ]
            died = [at for at in deaths[owner] if claim.at <= at <= following.at]
            if freed and died:
                found.append(
                    Reclaim(
                        freed=(freed[0] - died[0]).total_seconds(),
                        claimed=(following.at - died[0]).total_seconds(),
                    )
                )
    return found


def _shown(numbers: Sequence[int]) -> str:
    text = ", ".join(str(number) for number in numbers[:20])
    return text if len(numbers) <= 20 else f"{text}, …"
