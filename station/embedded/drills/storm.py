"""``storm``: many runs of several kinds while everything is killed at random, all the time."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from station.embedded.drills.history import check, reclaims
from station.embedded.drills.report import Options, Report, Say, percentile
from station.embedded.drills.stack import Stack
from station.embedded.drills.stage import KINDS, SCRIPTS, WRITING, Stage
from station.embedded.process import GuardedProcess

PROMISE = "kills lose no run, end none twice and repeat no effect"
RECLAIMED_WITHIN = 30.0
_VICTIMS = {"worker": 50, "keeper": 20, "valkey": 15, "postgres": 15}
_GAP = 2.2
"""Seconds between two kills, on average."""
_RIPE = 4.0
"""Seconds from a worker's start to its being a target."""
_SETTLED = 2.0
_TOLD = 5.0
_PATIENCE = 180.0
_SMALL = 200
"""Up to that many runs, leases are short and workers few, so that the storm is over soon."""


def schedule(seed: int, kills: int) -> list[tuple[float, str]]:
    """When whom to kill: seconds from the start, in order. The same for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - a schedule, no secret
    names, weights = list(_VICTIMS), list(_VICTIMS.values())
    at, plan = 0.0, []
    for _ in range(kills):
        at += rng.uniform(0.2 * _GAP, 1.8 * _GAP)
        plan.append((at, rng.choices(names, weights)[0]))
    return plan


def storm(options: Options, say: Say) -> Report:
    """Carry ``options.runs`` runs through ``options.kills`` kills and check the history."""
    runs, kills = options.runs or 200, 20 if options.kills is None else options.kills
    report = Report(drill="storm", promise=PROMISE, seed=options.seed)
    lease = 6.0 if runs <= _SMALL else 20.0
    # Whoever dies three times without a step is given up; here every run has to succeed.
    with Stack(say, scripts=SCRIPTS, lease=lease, slots=10, max_attempts=100) as stack:
        stage = Stage(stack)
        crew = 2 if runs <= _SMALL else 4
        storming = _Storm(stack, stage, seed=options.seed, crew=crew, say=say)
        storming.rage(runs, schedule(options.seed, kills))
        say("the last kill is done; checking the history when every run has ended")
        storming.calm()
        _judge(report, stage, storming, lease)
    return report


class _Storm:
    """The processes under fire."""

    def __init__(self, stack: Stack, stage: Stage, *, seed: int, crew: int, say: Say) -> None:
        self._stack, self._stage, self._say = stack, stage, say
        self._rng = random.Random(f"victims {seed}")  # noqa: S311 - a schedule, no secret
        self.killed: Counter[str] = Counter()
        self.worker_kills: list[tuple[int, datetime]] = []
        self.decided = 0
        self._ripe: list[GuardedProcess] = []
        self._workers = [stack.worker() for _ in range(crew)]
        self._keepers = [stack.keeper() for _ in range(crew // 2)]
        self._begun = self._looked = self._spoke = time.monotonic()
        stage.rehearse()
        stack.await_workers(*self._workers)

    def rage(self, runs: int, plan: Sequence[tuple[float, str]]) -> None:
        """Submit the runs evenly while killing as planned."""
        self._begun = time.monotonic()
        duration = plan[-1][0] if plan else 1.0
        self._say(f"{runs} runs, {len(plan)} kills in {duration:.0f} s")
        waiting, submitted = list(plan), 0
        while waiting or submitted < runs:
            now = time.monotonic() - self._begun
            if waiting and waiting[0][0] <= now and self._can_kill(waiting[0][1]):
                self._kill(waiting.pop(0)[1])
            elif submitted < min(runs, now / duration * runs):
                self._stage.submit(KINDS[submitted % len(KINDS)])
                submitted += 1
            else:
                time.sleep(0.02)
            self._look_after()

    def calm(self) -> None:
        """Let everything that is left come to its end; give up after a while."""
        deadline = time.monotonic() + _PATIENCE
        while self._stage.unfinished() and time.monotonic() < deadline:
            self._look_after()
            time.sleep(0.2)

    def _can_kill(self, victim: str) -> bool:
        """Whether it is there to be killed: half of the workers have had the time to claim.

        On a slow machine this puts the kill off; else workers would be killed at their start only.
        """
        if victim == "worker":
            ripe = self._stage.workers(since=_RIPE)
            self._ripe = [each for each in self._workers if each.pid in ripe]
            return len(self._ripe) >= max(1, len(self._workers) // 2)
        return True

    def _kill(self, victim: str) -> None:
        self.killed[victim] += 1
        match victim:
            case "worker":
                index = self._workers.index(self._rng.choice(self._ripe))
                self.worker_kills.append((self._workers[index].pid, datetime.now(UTC)))
                _gone(self._workers[index])
                self._workers[index] = self._stack.worker()
            case "keeper":
                index = self._rng.randrange(len(self._keepers))
                _gone(self._keepers[index])
                self._keepers[index] = self._stack.keeper()
            case "valkey":
                self._stack.valkey.kill()
                self._stack.valkey.start()
            case _:
                self._stack.postgres.kill()
                self._stack.postgres.start()

    def _look_after(self) -> None:
        """What a person and a supervisor do: decide, restart what fell over, tell."""
        now = time.monotonic()
        if now - self._looked > _SETTLED:
            self._looked = now
            self.decided += self._stage.settle()
            for index, worker in enumerate(self._workers):
                if worker.returncode is not None:
                    self.killed["worker ended by itself"] += 1
                    self._workers[index] = self._stack.worker()
            for index, keeper in enumerate(self._keepers):
                if keeper.returncode is not None:
                    self.killed["keeper ended by itself"] += 1
                    self._keepers[index] = self._stack.keeper()
        if now - self._spoke > _TOLD:
            self._spoke = now
            states = ", ".join(
                f"{n} {status}" for status, n in sorted(self._stage.statuses().items())
            )
            kills = ", ".join(f"{n} {name}" for name, n in sorted(self.killed.items()))
            self._say(f"{now - self._begun:4.0f} s: runs: {states}; killed: {kills or 'none'}")


def _gone(process: GuardedProcess) -> None:
    process.kill()
    process.wait()


def _judge(report: Report, stage: Stage, storming: _Storm, lease: float) -> None:
    records, effects = stage.records(), stage.effects()
    found = check(records, effects, writing=WRITING, submitted=frozenset(stage.submitted))
    report.violations += [str(violation) for violation in found]
    for record in records:
        if record.status in {"failed", "timed_out", "cancelled"}:
            report.violations.append(
                f"not_succeeded: run {record.run_id}: {record.status}: {record.error}"
            )
    found_again = reclaims(records, storming.worker_kills)
    freed = [each.freed for each in found_again]
    delays = [each.claimed for each in found_again]
    p99 = percentile(delays, 0.99)
    report.expect(
        p99 <= RECLAIMED_WITHIN,
        f"late_reclaim: p99 {p99:.1f} s after a kill, promised are {RECLAIMED_WITHIN:.0f} s",
    )
    report.count(
        runs=len(records),
        statuses=dict(sorted(Counter(record.status for record in records).items())),
        kills=dict(sorted(storming.killed.items())),
        claims=sum(record.fence for record in records),
        journal_entries=sum(len(record.journal) for record in records),
        effects=len(effects),
        calls_decided_by_a_person=storming.decided,
        runs_reclaimed_after_a_kill=len(delays),
        lease_seconds=lease,
        freed_p99_seconds=round(percentile(freed, 0.99), 1),
        reclaim_p50_seconds=round(percentile(delays, 0.5), 1),
        reclaim_p99_seconds=round(p99, 1),
    )
