"""``zombie``: a worker sleeps past its lease and wakes up; it writes nothing and sends nothing."""

import signal
import time
from collections import Counter

from station.embedded.drills.history import check
from station.embedded.drills.report import Options, Report, Say
from station.embedded.drills.stack import Stack, until
from station.embedded.drills.stage import SLOW, SLOW_SCRIPTS, WRITING, Stage
from station.embedded.process import GuardedProcess

PROMISE = "a worker that was stopped past its lease writes no row and sends no call"
_EXPECTED = {
    # What a run's journal holds if only its second owner went on, and how often a model was asked:
    # the first owner asked once, before it was stopped.
    "think-slowly": ({"run.claimed": 2, "run.released": 1, "model.answered": 1}, 2),
    "look-slowly": (
        {
            "run.claimed": 2,
            "run.released": 1,
            "model.answered": 3,
            "tool.called": 3,
            "tool.returned": 2,
        },
        3,
    ),
}


def zombie(options: Options, say: Say) -> Report:
    """Stop a worker in a model call and in a tool call, and wake it beside its successor."""
    report = Report(drill="zombie", promise=PROMISE, seed=options.seed)
    with Stack(say, scripts=SLOW_SCRIPTS, lease=3.0) as stack:
        stage = Stage(stack)
        stack.keeper()
        first = stack.worker()
        stage.rehearse()
        runs = {stage.submit(script): script for script in _EXPECTED}
        until(lambda: _under_way(stack, stage, runs), "both runs to be under way")
        asleep = time.monotonic()
        first.send_signal(signal.SIGSTOP)
        say("stopped the worker while it waits for a model and for a tool")
        second = stack.worker()
        until(lambda: _owned_twice(stage, runs), "another worker to take both runs")
        # Its answers have arrived by then: they are the first thing it sees.
        until(lambda: time.monotonic() > asleep + SLOW, "the answers")
        first.send_signal(signal.SIGCONT)
        say(f"woke it after {time.monotonic() - asleep:.1f} s; its leases were 3 s")
        until(lambda: stage.unfinished(*runs) == 0, "the runs")
        _stays_useful(stage, second)
        _judge(report, stack, stage, runs)
        report.count(slept_seconds=round(time.monotonic() - asleep, 1))
    return report


def _under_way(stack: Stack, stage: Stage, runs: dict[int, str]) -> bool:
    """The model thinks about one run, and the tool has been called for the other."""
    counts = stack.model.counts
    called = any(
        event.kind == "tool.called"
        for record in stage.records()
        if record.run_id in runs
        for event in record.journal
    )
    return counts["think-slowly"] > 0 and called


def _owned_twice(stage: Stage, runs: dict[int, str]) -> bool:
    return all(record.fence == 2 for record in stage.records() if record.run_id in runs)


def _stays_useful(stage: Stage, second: GuardedProcess) -> None:
    """The one that slept carries runs again: so it had the time to do harm."""
    second.kill()
    second.wait()
    run = stage.submit("answer")
    until(lambda: stage.unfinished(run) == 0, "a run carried by the worker that slept")


def _judge(report: Report, stack: Stack, stage: Stage, runs: dict[int, str]) -> None:
    records, effects = stage.records(), stage.effects()
    found = check(records, effects, writing=WRITING, submitted=frozenset(stage.submitted))
    report.violations += [str(violation) for violation in found]
    late_rows = late_requests = 0
    for record in records:
        if record.run_id not in runs:
            continue
        script = runs[record.run_id]
        rows, requests = _EXPECTED[script]
        counts = Counter(event.kind for event in record.journal)
        late_rows += sum(counts[kind] - number for kind, number in rows.items())
        late_requests += stack.model.counts[script] - requests
        report.expect(record.status == "succeeded", f"{script} is {record.status}")
        report.expect(
            all(counts[kind] == number for kind, number in rows.items()),
            f"the journal of {script} has {dict(counts)}, expected were {rows}",
        )
    wanted = 1 + sum(script == "look-slowly" for script in runs.values())  # and the rehearsal's
    report.expect(late_requests == 0, f"{late_requests} model requests after it woke")
    report.expect(len(effects) == wanted, f"{len(effects)} effects, expected were {wanted}")
    report.count(
        rows_written_after_waking=late_rows,
        model_requests_after_waking=late_requests,
        calls_sent_after_waking=len(effects) - wanted,
    )
