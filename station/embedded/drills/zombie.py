"""``zombie``: a worker sleeps past its lease and wakes up; it writes nothing and sends nothing."""

import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from station.embedded.drills.nursery import Nursery, Victim
from station.embedded.drills.outcome import Outcome
from station.embedded.drills.report import Options, Report, Say
from station.embedded.drills.scripts import DONE, look, note, script, turn
from station.embedded.drills.stack import Stack, staged
from station.embedded.drills.stage import Stage

_SLOW = 4.0
"""Seconds that a model or a tool takes to answer whom the sleeper had asked."""
_REFUSED = 3.0
"""Seconds that a model wants to be left alone."""
_LEASE = 3.0
_WAKES_AFTER = 5.0
"""By then what the sleeper waited for has come: it is the first thing it sees."""
_SPARE_BELLS = 2
"""A worker that was stopped took a bell with it."""
_SCRIPTS = [
    script("answer", DONE),
    script("thinking", {**DONE, "delay": _SLOW}),
    script("looking", turn(look(_SLOW)), turn(note()), DONE),
    script("refused", {**DONE, "error": {"status": 429, "retry_after": _REFUSED, "times": 1}}),
    script("sending", turn(note()), DONE),
    script("asking", turn(look(0.1)), DONE),
]


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What there is of a run if only its later owners went on."""

    journal: Mapping[str, int]
    """How many entries of each kind."""
    requests: int
    effects: int


EXPECTED = {
    "thinking": Expected(
        journal={"run.claimed": 2, "run.released": 1, "model.answered": 1}, requests=2, effects=0
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
}


def zombie(report: Report, options: Options, say: Say) -> None:
    """Stop two workers right before they would send, with more under way; wake them later."""
    del options
    with staged(report, say, scripts=_SCRIPTS, lease=_LEASE) as stack:
        stage = Stage(stack)
        nursery = Nursery(stack, slots=8)
        heir = stack.worker()
        stack.await_workers(heir)
        heir.send_signal(signal.SIGSTOP)
        # The first call is that of the run that looks.
        caller = nursery.fork("before-send", passage=2, number=signal.SIGSTOP)
        runs = {name: stage.submit(name) for name in ("thinking", "looking", "refused")}
        stage.ring(_SPARE_BELLS)
        stack.until(lambda: _under_way(stack, stage, runs), "the runs to be under way")
        runs["sending"] = stage.submit("sending")
        stage.ring(_SPARE_BELLS)
        stack.until(lambda: caller.stopped, "a worker to stop before a call")
        asker = nursery.fork("before-request", passage=2, number=signal.SIGSTOP)
        runs["asking"] = stage.submit("asking")
        stack.until(lambda: asker.stopped, "a worker to stop before a request")
        asleep = time.monotonic()
        say("two workers sleep: a call and a request were next; a model and a tool are at work")
        heir.send_signal(signal.SIGCONT)
        stack.keeper()  # nobody freed a lease before
        stack.until(
            lambda: all(stage.entries(run, "run.claimed") > 1 for run in runs.values()),
            "another worker to take the runs",
        )
        stack.until(lambda: time.monotonic() > asleep + _WAKES_AFTER, "the answers")
        caller.send(signal.SIGCONT)
        asker.send(signal.SIGCONT)
        slept = time.monotonic() - asleep
        say(f"they wake after {slept:.1f} s; their leases were {_LEASE:g} s")
        stage.await_ends()
        heir.kill()
        useful = _is_useful(stage, caller, asker) and _is_useful(stage, asker, caller)
        judge(report, stage.outcome(), runs, useful=useful)
        report.count(slept_seconds=round(slept, 1))


def _under_way(stack: Stack, stage: Stage, runs: Mapping[str, int]) -> bool:
    """A model thinks, a tool has been called, and another model has refused to answer for now."""
    return (
        stack.model.counts["thinking"] > 0
        and stage.entries(runs["looking"], "tool.called") > 0
        and stage.entries(runs["refused"], "model.retried") > 0
    )


def _is_useful(stage: Stage, sleeper: Victim, other: Victim) -> bool:
    """Whether one that slept carries runs again: so it had the time to do harm."""
    other.send(signal.SIGSTOP)
    ended = stage.await_ends(stage.submit("answer"))
    other.send(signal.SIGCONT)
    return ended and not sleeper.stopped


def judge(
    report: Report, outcome: Outcome, runs: Mapping[str, int], *, useful: bool = True
) -> None:
    """Hold the runs, by script, against :data:`EXPECTED`.

    ``useful``: the workers that slept carried runs afterwards.
    """
    outcome.judge_history(report)
    report.expect(useful, "a worker that slept carries no runs any more")
    records = {record.run_id: record for record in outcome.runs}
    rows = requests = calls = 0
    for name, run_id in runs.items():
        expected = EXPECTED[name]
        counts = Counter(event.kind for event in records[run_id].journal)
        found = {kind: counts[kind] for kind in expected.journal}
        asked, effects = outcome.asked[run_id], outcome.effects_of(run_id)
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
        rows += sum(found.values()) - sum(expected.journal.values())
        requests += asked - expected.requests
        calls += effects - expected.effects
    report.count(
        rows_written_after_waking=rows,
        model_requests_after_waking=requests,
        calls_sent_after_waking=calls,
    )
