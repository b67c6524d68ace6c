"""``bell``: messages are lost, doubled and late, and the broker restarts; every run runs once."""

from station.embedded.drills.history import check
from station.embedded.drills.report import Options, Report, Say
from station.embedded.drills.stack import Stack, until
from station.embedded.drills.stage import KINDS, SCRIPTS, WRITING, Stage

PROMISE = "whatever becomes of the messages, every run is carried, and once"
_EACH = 16
_QUEUED = "station"


def bell(options: Options, say: Say) -> Report:
    """Treat the doorbell badly in five ways, with runs queued each time."""
    from runs.bell import ring  # noqa: PLC0415 - needs Django, which the stack sets up

    report = Report(drill="bell", promise=PROMISE, seed=options.seed)
    with Stack(say, scripts=SCRIPTS, lease=6.0) as stack:
        stage = Stage(stack)
        stack.keeper()
        workers = [stack.worker() for _ in range(2)]
        stage.rehearse()
        stack.await_workers(*workers)

        def submit(what: str) -> None:
            say(f"{_EACH} runs, {what}")
            for number in range(_EACH):
                stage.submit(KINDS[number % len(KINDS)])

        def ended() -> None:
            until(lambda: not stage.unfinished(), "the end of every run")

        submit("and each bell twenty times")
        ring(_EACH * 20)
        ended()
        say("late bells: a hundred, with nothing to do")
        ring(100)
        submit("and FLUSHALL while they are queued")
        flushed = _flush(stack)
        ended()
        say("the broker is killed: bells are lost")
        stack.valkey.kill()
        submit("without a broker")
        stack.valkey.start()
        ended()
        submit("and the broker restarts while they are carried")
        stack.valkey.restart()
        ended()
        _judge(report, stage)
        report.count(messages_flushed=flushed)
    return report


def _flush(stack: Stack) -> int:
    """Empty the broker; how many bells were in it."""
    import redis  # noqa: PLC0415

    with redis.Redis.from_url(stack.valkey.url) as client:
        bells = client.llen(_QUEUED)
        client.flushall()
    return int(bells)


def _judge(report: Report, stage: Stage) -> None:
    records, effects = stage.records(), stage.effects()
    found = check(records, effects, writing=WRITING, submitted=frozenset(stage.submitted))
    report.violations += [str(violation) for violation in found]
    for record in records:
        where = f"run {record.run_id}"
        report.expect(record.status == "succeeded", f"{where} is {record.status}: {record.error}")
        report.expect(record.fence == 1, f"{where} was claimed {record.fence} times")
    report.count(
        runs=len(records),
        claims=sum(record.fence for record in records),
        effects=len(effects),
    )
