"""``drain``: every worker is replaced, again and again, under load; no run fails or starts over."""

import itertools
import signal
import time

from station.embedded.drills.history import check
from station.embedded.drills.report import Options, Report, Say
from station.embedded.drills.stack import Stack, until
from station.embedded.drills.stage import KINDS, SCRIPTS, WRITING, Stage

PROMISE = "rolling restarts fail no healthy run"
GONE = 25.0
_ROUNDS, _WORKERS, _AT_ONCE = 2, 2, 12


def drain(options: Options, say: Say) -> Report:
    """Replace the workers one by one while runs keep coming."""
    report = Report(drill="drain", promise=PROMISE, seed=options.seed)
    slowest = 0.0
    with Stack(say, scripts=SCRIPTS, lease=6.0, shutdown_grace="4s") as stack:
        stage = Stage(stack)
        stack.keeper()
        workers = [stack.worker() for _ in range(_WORKERS)]
        stage.rehearse()
        stack.await_workers(*workers)

        kinds = itertools.cycle(KINDS)

        def keep_busy() -> None:
            for _ in range(_AT_ONCE - stage.unfinished()):
                stage.submit(next(kinds))

        for number in range(_ROUNDS * _WORKERS):
            fresh = stack.worker()
            until(lambda fresh=fresh: fresh.pid in stage.workers(), "a worker", each=keep_busy)  # type: ignore[misc]
            old = workers.pop(0)
            workers.append(fresh)
            began = time.monotonic()
            old.send_signal(signal.SIGTERM)
            until(lambda old=old: old.returncode is not None, "its end", each=keep_busy)  # type: ignore[misc]
            took = time.monotonic() - began
            slowest = max(slowest, took)
            say(f"replaced worker {number + 1}: gone in {took:.1f} s, exit code {old.returncode}")
            report.expect(old.returncode == 0, f"a worker ended with {old.returncode}")
        until(lambda: not stage.unfinished(), "the end of every run")
        _judge(report, stage)
    report.expect(slowest <= GONE, f"a worker took {slowest:.1f} s to go, promised are {GONE:g}")
    report.count(restarts=_ROUNDS * _WORKERS, slowest_exit_seconds=round(slowest, 1))
    return report


def _judge(report: Report, stage: Stage) -> None:
    records, effects = stage.records(), stage.effects()
    found = check(records, effects, writing=WRITING, submitted=frozenset(stage.submitted))
    report.violations += [str(violation) for violation in found]
    handed_back = 0
    for record in records:
        report.expect(
            record.status == "succeeded", f"run {record.run_id} is {record.status}: {record.error}"
        )
        for event in record.journal:
            if event.kind == "run.released":
                reason = event.payload["reason"]
                handed_back += reason == "drained"
                report.expect(reason == "drained", f"run {record.run_id} was released: {reason}")
    report.count(runs=len(records), runs_handed_back=handed_back, effects=len(effects))
