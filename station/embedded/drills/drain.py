"""``drain``: workers and PostgreSQL are restarted under load; no run fails or starts over."""

import itertools
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass

from station.embedded.drills.nursery import Forked, Nursery
from station.embedded.drills.outcome import Outcome
from station.embedded.drills.report import Options, Report, Say
from station.embedded.drills.scripts import DONE, KINDS, kinds, look, note, script, turn
from station.embedded.drills.stack import Stack, staged
from station.embedded.drills.stage import Stage

GONE = 25.0
_REPLACED, _AT_ONCE, _SLOTS = 3, 8, 8
_GRACE = 3.0
_SCRIPTS = [
    *kinds(2.0),
    script("long", *[turn(note(), look(1.0))] * 6, DONE),
    script("slow", turn(note(after=_GRACE + 10.0)), DONE),
]


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How a worker went that was told to."""

    seconds: float
    returncode: int | None
    forgotten: bool
    """It is no longer listed as a worker."""


def drain(report: Report, options: Options, say: Say) -> None:
    """Replace the worker and restart PostgreSQL, again and again, while runs keep coming."""
    del options
    with staged(report, say, scripts=_SCRIPTS, lease=20.0, shutdown_grace=f"{_GRACE:g}s") as stack:
        stage = Stage(stack)
        stack.keeper()
        nursery = Nursery(stack)
        worker = nursery.worker(slots=_SLOTS)
        stack.until(lambda: worker.pid in stage.workers(), "a worker")
        upcoming = itertools.cycle(KINDS)

        def keep_busy() -> None:
            stage.settle()
            for _ in range(_AT_ONCE - stage.unfinished()):
                stage.submit(next(upcoming))

        exits: list[Exit] = []
        slow: set[int] = set()
        for _ in range(_REPLACED):
            fresh = nursery.worker(slots=_SLOTS)
            stack.until(lambda pid=fresh.pid: pid in stage.workers(), "a worker", each=keep_busy)  # type: ignore[misc]
            chosen = [stage.submit("slow"), stage.submit("long"), stage.submit("long")]
            slow.add(chosen[0])
            stack.until(lambda chosen=chosen: _have_effects(stage, chosen), "their effects")  # type: ignore[misc]
            if stage.owner(chosen[0]) == fresh.pid:
                worker, fresh = fresh, worker
            exits.append(_replace(stack, stage, nursery, worker, keep_busy))
            worker = fresh
            say(f"replaced a worker: gone in {exits[-1].seconds:.1f} s")
        through = frozenset(stage.submit("long") for _ in range(3))
        for count, down in enumerate((stack.postgres.stop, stack.postgres.kill), start=1):
            stack.until(
                lambda count=count: _have_effects(stage, through, at_least=count),  # type: ignore[misc]
                "their effects",
            )
            down()
            stack.postgres.start()
            say(f"PostgreSQL was {'stopped' if count == 1 else 'killed'} and is up again")
        stage.await_ends()
        judge(report, stage.outcome(), exits, slow=slow, through=through)


def _have_effects(stage: Stage, runs: Iterable[int], *, at_least: int = 1) -> bool:
    """Each of the runs is under way: so many of its calls had their effect."""
    of_run = Counter(effect.key.partition(":")[0] for effect in stage.effects())
    return all(of_run[str(run)] >= at_least for run in runs)


def _replace(
    stack: Stack, stage: Stage, nursery: Nursery, worker: Forked, keep_busy: Callable[[], None]
) -> Exit:
    """Have the worker go; another is there already."""
    began = time.monotonic()
    worker.send(signal.SIGTERM)
    stack.until(lambda: nursery.ended(worker), "a worker's end", each=keep_busy)
    return Exit(
        seconds=time.monotonic() - began,
        returncode=worker.returncode,
        forgotten=worker.pid not in stage.workers(),
    )


def judge(
    report: Report,
    outcome: Outcome,
    exits: Sequence[Exit],
    *,
    slow: Set[int] = frozenset(),
    through: Set[int] = frozenset(),
) -> None:
    """Every worker went in time and in order, and no run noticed.

    A person was asked about ``slow`` runs only; nobody else took over those ``through`` whose
    course PostgreSQL was away.
    """
    for went in exits:
        report.expect(went.returncode == 0, f"a worker ended with {went.returncode}")
        report.expect(
            went.seconds <= GONE, f"a worker took {went.seconds:.1f} s to go, not {GONE:g}"
        )
        report.expect(went.forgotten, "a worker that has gone is still listed")
    outcome.judge_history(report)
    handed_back = 0
    for run in outcome.runs:
        again = 0
        for released in run.of("run.released"):
            reason = released.payload.get("reason")
            handed_back += reason == "drained"
            again += reason == "drained"
            report.expect(reason == "drained", f"it was released: {reason}", run=run.run_id)
        decided = [each.payload.get("decision") for each in run.of("run.decided")]
        wanted = ["happened"] if run.run_id in slow else []
        report.expect(decided == wanted, f"a person said {decided}, not {wanted}", run=run.run_id)
        if run.run_id in through:
            report.expect(run.fence == 1, f"it was claimed {run.fence} times", run=run.run_id)
        asked = outcome.asked.get(run.run_id, 0)
        report.expect(
            run.steps <= asked <= run.steps + again,
            f"{asked} requests for {run.steps} answers, though it was handed back {again} times",
            run=run.run_id,
        )
    report.expect(handed_back, "no run was handed back: no worker had one when it was told to go")
    report.count(
        restarts=len(exits),
        runs_handed_back=handed_back,
        slowest_exit_seconds=round(max((went.seconds for went in exits), default=0.0), 1),
    )
