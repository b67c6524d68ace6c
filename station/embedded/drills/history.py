"""The history checker: reads what happened and names each broken promise. Pure.

It knows nothing of how Station works, and relies on no entry being there or whole: it holds the
journals, the rows and the effects that the tool server counted against the guarantees of
``docs/guarantees.md``.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

TERMINAL = frozenset({"succeeded", "failed", "timed_out", "cancelled"})
_WORK = frozenset(
    {"model.answered", "model.retried", "tool.called", "tool.returned", "output.rejected"}
)
_OWNERS = _WORK | {"run.waiting", "run.released"}
"""Only who owns the run may write these."""
_THEN = {
    "run.claimed": "running",
    "run.released": "queued",
    "run.decided": "queued",
    "run.waiting": "waiting",
}
_WITHOUT_OWNER = frozenset({"cancelled", "timed_out"})
"""These endings may come to a run that nobody owns."""
_CLOCKS = timedelta(seconds=0.25)
"""By how much the tool server's clock and the database's may differ."""


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
    steps: int
    journal: Sequence[Happening]
    error: str = ""

    def of(self, kind: str) -> list[Happening]:
        """The entries of one kind."""
        return [each for each in self.journal if each.kind == kind]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Something the tool server did, with the key of the call that asked for it."""

    key: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One broken promise. ``name`` is stable; ``run_id`` is 0 where it is about no run."""

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
    submitted: frozenset[int] | None = None,
    witnessed: bool = False,
) -> list[Violation]:
    """Every violation in the history.

    Args:
        runs: all rows with their journals.
        effects: what the tools did, each under ``run:step:index``.
        writing: the model's names of the tools that have an effect each time they are called.
        submitted: the runs whose submission was acknowledged; ``None``: not known.
        witnessed: whoever decided about calls in doubt saw the effects, so that no call has more
            than one.
    """
    known = {run.run_id for run in runs}
    by_run: dict[str, list[Effect]] = defaultdict(list)
    for effect in effects:
        by_run[effect.key.partition(":")[0]].append(effect)
    found = []
    if submitted is not None:
        found += [
            Violation(name="lost_run", run_id=run_id, detail="acknowledged, and there is no row")
            for run_id in sorted(submitted - known)
        ]
        found += [
            Violation(name="stray_run", run_id=run_id, detail="there is a row nobody asked for")
            for run_id in sorted(known - submitted)
        ]
    for run in runs:
        found += _journal(run)
        found += _life(run)
        found += _steps(run)
        found += _effects(run, by_run.pop(str(run.run_id), []), writing, witnessed=witnessed)
    found += [
        Violation(name="effect_without_intent", run_id=0, detail=f"{effect.key!r} is of no run")
        for strays in by_run.values()
        for effect in strays
    ]
    return found


def _journal(run: RunRecord) -> Iterator[Violation]:
    """Numbers without gaps, one ending, nothing behind it; the run has come to something."""
    numbers = [each.seq for each in run.journal]
    if numbers != list(range(1, run.last_seq + 1)):
        yield Violation(
            name="gap_in_journal",
            run_id=run.run_id,
            detail=f"numbers {_shown(numbers)}, the row says {run.last_seq}",
        )
    ends = [each.seq for each in run.of("run.finished")]
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


def _life(run: RunRecord) -> Iterator[Violation]:
    """One owner at a time, each with a fence of its own; work and endings only by an owner."""
    state, stopped = "queued", False
    for each in run.journal:
        if each.kind == "run.finished":
            status = str(each.payload.get("status"))
            if not (state == "running" or status in _WITHOUT_OWNER or stopped):
                yield Violation(
                    name="ended_without_owner",
                    run_id=run.run_id,
                    detail=f"{each.seq}: {status} while {state}",
                )
            state = status
            break  # what comes behind it is named by itself
        if each.kind == "run.claimed" and state != "queued":
            yield Violation(
                name="two_owners", run_id=run.run_id, detail=f"{each.seq}: claimed {state}"
            )
        if each.kind in _OWNERS and state != "running":
            yield Violation(
                name="work_without_owner",
                run_id=run.run_id,
                detail=f"{each.seq}: {each.kind} while {state}",
            )
        stopped = each.kind == "run.decided" and (stopped or each.payload.get("decision") == "stop")
        state = _THEN.get(each.kind, state)
    if run.status != state:
        yield Violation(
            name="row_differs_from_journal",
            run_id=run.run_id,
            detail=f"the row is {run.status}, by the journal it is {state}",
        )
    claims = len(run.of("run.claimed"))
    if claims != run.fence:
        yield Violation(
            name="claim_without_fence",
            run_id=run.run_id,
            detail=f"{claims} claims, but the fence is {run.fence}",
        )


def _steps(run: RunRecord) -> Iterator[Violation]:
    """Each step answered once and counted once, each call with one result at most."""
    steps = [each.payload.get("step", 0) for each in run.of("model.answered")]
    if steps != list(range(1, len(steps) + 1)):
        yield Violation(
            name="step_answered_twice",
            run_id=run.run_id,
            detail=f"the answers are of the steps {_shown(steps)}",
        )
    if run.steps != len(steps):
        yield Violation(
            name="steps_miscounted",
            run_id=run.run_id,
            detail=f"{len(steps)} answers, the row counts {run.steps}",
        )
    results: Counter[str] = Counter()
    open_calls: dict[str, str] = {}
    for each in run.journal:
        if each.kind == "tool.called":
            open_calls[str(each.payload.get("call_id"))] = _key(run, each)
        elif each.kind == "tool.returned":
            results[_key(run, each)] += 1
        elif each.kind == "run.decided" and each.payload.get("decision") == "happened":
            results[open_calls.get(str(each.payload.get("call_id")), "")] += 1
    for key, count in results.items():
        if count > 1:
            yield Violation(
                name="two_results", run_id=run.run_id, detail=f"{key} has {count} results"
            )


@dataclass(kw_only=True)
class _Call:
    """What the journal of a run says of one call of a writing tool."""

    key: str
    stretches: list[list[datetime]] = field(default_factory=list)
    """From each time it was announced to its result, or the decision about it, if there is one."""
    repeats: int = 0
    """How often a person had it repeated."""

    def announce(self, at: datetime) -> None:
        if not self.stretches or len(self.stretches[-1]) == 2:
            self.stretches.append([at])

    def settle(self, at: datetime) -> None:
        if self.stretches and len(self.stretches[-1]) == 1:
            self.stretches[-1].append(at)

    def covers(self, at: datetime) -> bool:
        """Whether it was announced at that time and had no known outcome."""
        return any(
            stretch[0] - _CLOCKS <= at and (len(stretch) == 1 or at <= stretch[1] + _CLOCKS)
            for stretch in self.stretches
        )


def _calls(run: RunRecord, writing: frozenset[str]) -> dict[str, _Call]:
    calls: dict[str, _Call] = {}
    by_id: dict[str, _Call] = {}
    for each in run.journal:
        payload, call_id = each.payload, str(each.payload.get("call_id"))
        if each.kind == "run.decided" and call_id in by_id:
            call = by_id[call_id]
            call.settle(each.at)
            call.repeats += payload.get("decision") == "repeat"
        elif payload.get("tool") in writing:
            key = _key(run, each)
            if each.kind == "tool.called":
                call = by_id[call_id] = calls.setdefault(key, _Call(key=key))
                call.announce(each.at)
            elif each.kind == "tool.returned":
                if key in calls:
                    calls[key].settle(each.at)
                elif not payload.get("is_error"):
                    calls[key] = _Call(key=key)
    return calls


def _effects(
    run: RunRecord, effects: Sequence[Effect], writing: frozenset[str], *, witnessed: bool
) -> Iterator[Violation]:
    """No effect unannounced, none twice without a person, none missing from a success."""
    calls = _calls(run, writing)
    counts = Counter(effect.key for effect in effects)
    for key, count in counts.items():
        asked = calls[key].repeats if key in calls else 0
        if count > 1 + (0 if witnessed else asked):
            yield Violation(
                name="effect_repeated",
                run_id=run.run_id,
                detail=f"{key} happened {count} times, people asked for {asked} more",
            )
    for effect in effects:
        call = calls.get(effect.key)
        if call is None or not call.stretches or effect.at < call.stretches[0][0] - _CLOCKS:
            yield Violation(
                name="effect_without_intent",
                run_id=run.run_id,
                detail=f"{effect.key} happened before the journal announced it",
            )
        elif not call.covers(effect.at):
            yield Violation(
                name="effect_out_of_its_time",
                run_id=run.run_id,
                detail=f"{effect.key} happened at {effect.at:%H:%M:%S.%f}, when it had its result "
                "or a person had decided about it",
            )
    if run.status == "succeeded":
        for key in sorted(calls.keys() - counts.keys()):
            yield Violation(
                name="success_without_effect", run_id=run.run_id, detail=f"{key} never happened"
            )


def _key(run: RunRecord, each: Happening) -> str:
    return f"{run.run_id}:{each.payload.get('step')}:{each.payload.get('index')}"


def _shown(numbers: Sequence[int]) -> str:
    text = ", ".join(str(number) for number in numbers[:20])
    return text if len(numbers) <= 20 else f"{text}, …"
