"""``bell``: messages are lost, doubled and late, and the broker restarts; every run runs once."""

import signal

from station.embedded.drills.delays import waits
from station.embedded.drills.nursery import Nursery
from station.embedded.drills.outcome import Outcome
from station.embedded.drills.report import Options, Report, Say
from station.embedded.drills.scripts import KINDS, kinds
from station.embedded.drills.stack import Stack, staged
from station.embedded.drills.stage import Stage

CLAIMED_WITHIN = 15.0
"""Seconds from a submission to its claim, whatever becomes of the bells."""
_EACH = 16
_QUEUED = "station"


def bell(report: Report, options: Options, say: Say) -> None:
    """Treat the doorbell badly in five ways, with runs queued each time."""
    del options
    with staged(report, say, scripts=kinds(0.8), lease=6.0) as stack:
        stage = Stage(stack)
        stack.keeper()
        nursery = Nursery(stack)
        workers = [nursery.worker(slots=8) for _ in range(2)]
        pids = {worker.pid for worker in workers}
        stack.until(lambda: pids <= stage.workers(), "the workers")

        def submit(what: str) -> None:
            say(f"{_EACH} runs, {what}")
            for number in range(_EACH):
                stage.submit(KINDS[number % len(KINDS)])

        submit("and each bell twenty times")
        stage.ring(_EACH * 20)
        stage.await_ends()
        say("late bells: a hundred, with nothing to do")
        stage.ring(100)
        stack.until(lambda: not _bells(stack), "the bells to be heard")
        for worker in workers:
            worker.send(signal.SIGSTOP)
        submit("and FLUSHALL before anybody hears of them")
        flushed = _bells(stack, flush=True)
        for worker in workers:
            worker.send(signal.SIGCONT)
        stage.await_ends()
        say("the broker is killed: bells are lost")
        stack.valkey.kill()
        submit("without a broker")
        stack.valkey.start()
        stage.await_ends()
        submit("and the broker restarts while they are carried")
        stack.valkey.restart()
        stage.submit("answer")
        stage.await_ends()
        judge(report, stage.outcome(), flushed)


def _bells(stack: Stack, *, flush: bool = False) -> int:
    """How many bells are in the broker; ``flush`` empties it."""
    import redis  # noqa: PLC0415

    with redis.Redis.from_url(stack.valkey.url) as client:
        bells = client.llen(_QUEUED)
        if flush:
            client.flushall()
    return int(bells)


def judge(report: Report, outcome: Outcome, flushed: int) -> None:
    """Every run was claimed once and soon, and there were bells to lose."""
    outcome.judge_history(report)
    for run in outcome.runs:
        report.expect(run.fence == 1, f"it was claimed {run.fence} times", run=run.run_id)
        for seconds in waits(run):
            report.expect(
                seconds <= CLAIMED_WITHIN, f"it was claimed after {seconds:.1f} s", run=run.run_id
            )
    report.expect(flushed > _EACH // 2, f"{flushed} bells were lost: there were too few to flush")
    report.count(
        claims=sum(run.fence for run in outcome.runs),
        bells_flushed=flushed,
        longest_wait_for_a_worker=round(
            max((seconds for run in outcome.runs for seconds in waits(run)), default=0.0), 1
        ),
    )
