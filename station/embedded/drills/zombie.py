"""``zombie``: a worker sleeps past its lease and wakes up; it writes nothing and sends nothing."""

import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from station.embedded.drills.failures import BUSY, NotInTime
from station.embedded.drills.history import RunRecord
from station.embedded.drills.nursery import Forked, Nursery
from station.embedded.drills.outcome import Outcome
from station.embedded.drills.report import Options, Report, Say
from station.embedded.drills.scripts import DONE, look, note, script, turn
from station.embedded.drills.stack import Stack, staged
from station.embedded.drills.stage import Stage

_SLOW = 4.0
"""Seconds that a model or a tool takes to answer a sleeper that will end or record with it."""
_WINDOW = 6.0
"""Seconds within which the first sleeper has to come to its point: so long whom it had asked for
:data:`_WAITING` takes to answer, or wants to be left alone."""
_LEASE = 3.0
_SLEEPERS = {
    "sending": ("before-send", 2),
    "asking": ("before-request", 2),
    "recording": ("after-send", 1),
    "ending": ("before-finish", 1),
}
"""By script: the point and passage at which the worker of its run falls asleep. The first one also
carries the runs that wait for something meanwhile."""
_WAITING = ("thinking", "looking", "refused")
_SPARE_BELLS = 1 + len(_SLEEPERS)
"""A worker that was stopped took a bell with it."""
_SCRIPTS = [
    script("answer", DONE),
    script("thinking", {**DONE, "delay": _WINDOW}),
    script("looking", turn(look(_WINDOW)), turn(note()), DONE),
    script("refused", {**DONE, "error": {"status": 429, "retry_after": _WINDOW, "times": 1}}),
    script("sending", turn(note()), DONE),
    script("asking", turn(look(0.1)), DONE),
    script("recording", turn(look(_SLOW)), DONE),
    script("ending", {**DONE, "delay": _SLOW}),
]


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What there is of a run if only its later owners went on."""

    journal: Mapping[str, int]
    """How many entries of each kind."""
    requests: int
    effects: int
    lasts: float = 0.0
    """Seconds from the last claim to the end, at least: so long its owner took."""


EXPECTED = {
    "thinking": Expected(
        journal={"run.claimed": 2, "run.released": 1, "model.answered": 1},
        requests=2,
        effects=0,
        lasts=_WINDOW,
    ),
    "looking": Expected(
        journal={
            "run.claimed": 2,
            "run.released": 1,
            "model.answered": 3,
            "tool.called": 3,
            "tool.returned": 2,
        },
        requests=3,
        effects=1,
        lasts=_WINDOW,
    ),
    "refused": Expected(
        journal={"run.claimed": 2, "run.released": 1, "model.retried": 1, "model.answered": 1},
        requests=2,
        effects=0,
    ),
    "sending": Expected(
        journal={
            "run.claimed": 3,
            "run.released": 1,
            "run.waiting": 1,
            "run.decided": 1,
            "model.answered": 2,
            "tool.called": 2,
            "tool.returned": 1,
        },
        requests=2,
        effects=1,
    ),
    "asking": Expected(
        journal={
            "run.claimed": 2,
            "run.released": 1,
            "model.answered": 2,
            "tool.called": 1,
            "tool.returned": 1,
        },
        requests=2,
        effects=0,
    ),
    "recording": Expected(
        journal={
            "run.claimed": 2,
            "run.released": 1,
            "model.answered": 2,
            "tool.called": 2,
            "tool.returned": 1,
        },
        requests=2,
        effects=0,
        lasts=_SLOW,
    ),
    "ending": Expected(
        journal={
            "run.claimed": 2,
            "run.released": 1,
            "model.answered": 1,
            "run.finished": 1,
        },
        requests=2,
        effects=0,
        lasts=_SLOW,
    ),
}


def zombie(report: Report, options: Options, say: Say) -> None:
    """Stop workers right before they would send or write, with more under way; wake them later."""
    del options
    with staged(report, say, scripts=_SCRIPTS, lease=_LEASE) as stack:
        stage = Stage(stack)
        nursery = Nursery(stack)
        heir = nursery.worker(slots=8)
        sleepers = {
            name: nursery.fork(
                point,
                passage=passage,
                slots=1 + len(_WAITING) if name == "sending" else 1,
                number=signal.SIGSTOP,
            )
            for name, (point, passage) in _SLEEPERS.items()
        }
        pids = {heir.pid, *(sleeper.pid for sleeper in sleepers.values())}
        stack.until(lambda: pids <= stage.workers(), "the workers")
        heir.send(signal.SIGSTOP)
        for sleeper in sleepers.values():
            sleeper.send(signal.SIGSTOP)
        runs = _fall_asleep(stack, stage, sleepers)
        asleep = time.monotonic()
        say(f"{len(sleepers)} workers sleep, each about to send or to write something")
        heir.send(signal.SIGCONT)
        stack.keeper()  # nobody freed a lease before
        stack.until(
            lambda: all(stage.entries(run, "run.claimed") > 1 for run in runs.values()),
            "another worker to take the runs",
        )
        stage.settle()
        for sleeper in sleepers.values():
            sleeper.send(signal.SIGCONT)
        slept = time.monotonic() - asleep
        say(f"their runs have other owners: they wake after {slept:.1f} s")
        stage.await_ends()
        heir.send(signal.SIGKILL)
        useful = _are_useful(stage, list(sleepers.values()))
        judge(report, stage.outcome(), runs, useful=useful)
        report.count(slept_seconds=round(slept, 1))


def _fall_asleep(stack: Stack, stage: Stage, sleepers: Mapping[str, Forked]) -> dict[str, int]:
    """Have one after the other take its runs and come to its point; the runs, by script.

    Raises:
        NotInTime: they did not, or the first one was too slow, see :func:`refuse_if_late`.
    """
    next(iter(sleepers.values())).send(signal.SIGCONT)
    runs = {name: stage.submit(name) for name in _WAITING}
    stage.ring(_SPARE_BELLS)
    stack.until(lambda: _under_way(stack, stage, runs), "the runs to be under way")
    for name, sleeper in sleepers.items():
        sleeper.send(signal.SIGCONT)
        run = runs[name] = stage.submit(name)
        stage.ring(_SPARE_BELLS)
        stack.until(
            lambda run=run, pid=sleeper.pid: stage.owner(run) == pid,  # type: ignore[misc]
            f"the claim of a worker that will sleep {sleeper}",
        )
    stack.until(
        lambda: all(sleeper.stopped for sleeper in sleepers.values()), "every worker to sleep"
    )
    refuse_if_late(
        answers=stage.entries(runs["thinking"], "model.answered"),
        results=stage.entries(runs["looking"], "tool.returned"),
        requests=stack.model.counts["refused"],
    )
    return runs


def refuse_if_late(*, answers: int, results: int, requests: int) -> None:
    """What the first sleeper was to sleep through has not happened before everybody slept.

    Args:
        answers: how many answers the journal of ``thinking`` has.
        results: how many results the journal of ``looking`` has.
        requests: how many requests the model of ``refused`` got.

    Raises:
        NotInTime: it has. Its owner had its lease then, so that breaks no promise.
    """
    if answers or results or requests > 1:
        raise NotInTime(
            f"A worker took more than {_WINDOW:g} s to come to the point where it was to sleep.",
            fix=BUSY,
        )


def _under_way(stack: Stack, stage: Stage, runs: Mapping[str, int]) -> bool:
    """A model thinks, a tool has been called, and another model has refused to answer for now."""
    return (
        stack.model.counts["thinking"] > 0
        and stage.entries(runs["looking"], "tool.called") > 0
        and stage.entries(runs["refused"], "model.retried") > 0
    )


def _are_useful(stage: Stage, sleepers: Sequence[Forked]) -> bool:
    """Whether each that slept carries runs again: so it had the time to do harm."""
    for sleeper in sleepers:
        sleeper.send(signal.SIGSTOP)
    useful = True
    for sleeper in sleepers:
        sleeper.send(signal.SIGCONT)
        run = stage.submit("answer")
        stage.ring(_SPARE_BELLS)
        useful = stage.await_ends(run) and useful
        sleeper.send(signal.SIGSTOP)
    return useful


def judge(
    report: Report, outcome: Outcome, runs: Mapping[str, int], *, useful: bool = True
) -> None:
    """Hold the runs, by script, against :data:`EXPECTED`; one without a row is only lost.

    ``useful``: the workers that slept carried runs afterwards.
    """
    outcome.judge_history(report)
    report.expect(useful, "a worker that slept carries no runs any more")
    records = {record.run_id: record for record in outcome.runs}
    rows = requests = calls = 0
    for name, run_id in runs.items():
        if run_id not in records:
            continue  # the history has it as lost
        expected = EXPECTED[name]
        counts = Counter(event.kind for event in records[run_id].journal)
        found = {kind: counts[kind] for kind in expected.journal}
        asked, effects = outcome.asked.get(run_id, 0), outcome.effects_of(run_id)
        report.expect(
            found == expected.journal, f"{name}: {found}, not {expected.journal}", run=run_id
        )
        report.expect(
            asked == expected.requests,
            f"{name}: {asked} requests to its model, not {expected.requests}",
            run=run_id,
        )
        report.expect(
            effects == expected.effects,
            f"{name}: {effects} effects, not {expected.effects}",
            run=run_id,
        )
        lasted = _lasted(records[run_id])
        report.expect(
            lasted >= expected.lasts,
            f"{name}: ended {lasted:.1f} s after its last claim, by somebody else: its owner took "
            f"{expected.lasts:g} s",
            run=run_id,
        )
        rows += sum(found.values()) - sum(expected.journal.values())
        requests += asked - expected.requests
        calls += effects - expected.effects
    report.count(
        rows_written_after_waking=rows,
        model_requests_after_waking=requests,
        calls_sent_after_waking=calls,
    )


def _lasted(run: RunRecord) -> float:
    """Seconds from the last claim to the end; 0 where it has none."""
    claims, ends = run.of("run.claimed"), run.of("run.finished")
    return (ends[0].at - claims[-1].at).total_seconds() if claims and ends else 0.0
