"""``crash``: a worker is killed at every commit point; another one takes up what it left."""

from collections.abc import Mapping
from datetime import UTC, datetime

from station.core.faults import POINTS
from station.embedded.drills.history import RunRecord, check, reclaims
from station.embedded.drills.report import Options, Report, Say
from station.embedded.drills.stack import Stack, until
from station.embedded.drills.stage import SCRIPTS, WRITING, Stage

PROMISE = "a SIGKILL at any commit point repeats no effect and loses no run"
_IN_DOUBT = frozenset({"after-intent", "before-send", "after-send"})
"""Between the intent and the result nobody but a person knows whether the tool did it."""
_HAPPENED = frozenset({"after-send"})


def crash(options: Options, say: Say) -> Report:
    """Kill one worker at each point, for a tool that writes and for one that only looks."""
    report = Report(drill="crash", promise=PROMISE, seed=options.seed)
    with Stack(say, scripts=SCRIPTS, lease=3.0, slots=1) as stack:
        stage = Stage(stack)
        keeper, worker = stack.keeper(), stack.worker()
        stage.rehearse()
        worker.kill()
        worker.wait()
        plan = [("note", point) for point in POINTS]
        plan += [("look", point) for point in POINTS if point in _IN_DOUBT]
        deaths: list[tuple[int, datetime]] = []
        victims: dict[int, tuple[str, str]] = {}
        for script, point in plan:
            pid, run = _die(stack, stage, script, point)
            deaths.append((pid, datetime.now(UTC)))
            victims[run] = (script, point)
            say(f"{script}: the worker died {point.replace('-', ' the ')}")
        say("a healthy worker takes over")
        doubts = _recover(stack, stage)
        keeper.kill()
        records = stage.records()
        _judge(report, stage, records, victims, doubts)
        report.count(
            workers_killed=len(plan),
            points=len(POINTS),
            runs_taken_over=len(reclaims(records, deaths)),
        )
    return report


def _die(stack: Stack, stage: Stage, script: str, point: str) -> tuple[int, int]:
    """A worker's death at ``point`` of a new run; its process id and the run's."""
    # An agent of its own, paused afterwards: no later victim takes this run over.
    agent = stage.agent(script, f"{script} {point}".replace(" ", "-"))
    worker = stack.start("station.embedded.drills.worker", "--die-at", point)
    run = stage.submit(script, agent.name)
    until(lambda: worker.returncode is not None, f"the worker's death at {point}")
    stage.pause(agent, paused=True)
    return worker.pid, run


def _recover(stack: Stack, stage: Stage) -> int:
    """Have a healthy worker finish everything; how many calls a person had to decide."""
    stage.pause(paused=False)
    stack.worker()
    decided = 0

    def look_after() -> None:
        nonlocal decided
        decided += stage.settle()

    until(lambda: not stage.unfinished(), "the end of every run", each=look_after)
    return decided


def _judge(
    report: Report,
    stage: Stage,
    records: list[RunRecord],
    victims: Mapping[int, tuple[str, str]],
    doubts: int,
) -> None:
    effects = stage.effects()
    found = check(records, effects, writing=WRITING, submitted=frozenset(stage.submitted))
    report.violations += [str(violation) for violation in found]
    asked = 0
    for record in records:
        script, point = victims.get(record.run_id, ("note", "rehearsal"))
        count = sum(effect.key.startswith(f"{record.run_id}:") for effect in effects)
        where = f"run {record.run_id} ({script}, {point})"
        report.expect(record.status == "succeeded", f"{where} is {record.status}: {record.error}")
        report.expect(count == (script == "note"), f"{where} had {count} effects")
        decided = [each for each in record.journal if each.kind == "run.decided"]
        asked += len(decided)
        report.expect(
            bool(decided) == (script == "note" and point in _IN_DOUBT),
            f"{where}: a person decided {len(decided)} calls",
        )
        verdicts = {each.payload["decision"] for each in decided}
        wanted = {"happened" if point in _HAPPENED else "repeat"} if decided else set()
        report.expect(verdicts == wanted, f"{where}: the person said {verdicts}")
    report.expect(asked == doubts, f"{asked} decisions are journaled, {doubts} were made")
    report.count(effects=len(effects), calls_decided_by_a_person=asked)
