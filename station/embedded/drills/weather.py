"""What rages in the drill ``storm``: a schedule of kills, and the processes under fire."""

import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from station.embedded.child import described
from station.embedded.drills.delays import Death
from station.embedded.drills.failures import BUSY, DrillFailed, NotInTime
from station.embedded.drills.report import Say
from station.embedded.drills.scripts import KINDS
from station.embedded.drills.stack import Stack
from station.embedded.drills.stage import Stage
from station.embedded.process import GuardedProcess

GAP = 2.2
"""Seconds between two kills, on average."""
_VICTIMS = {"worker": 46, "freeze": 6, "keeper": 18, "valkey": 15, "postgres": 15}
"""How often each is the victim, of a hundred; a worker that freezes is stopped past its leases."""
_PAST = 3.0
"""Seconds by which a frozen worker sleeps longer than its leases."""
_RIPE = 4.0
"""Seconds from a worker's start to its being a target."""
_SETTLED = 2.0
_TOLD = 5.0
_GONE = 15.0
_PATIENCE = 180.0


def schedule(seed: int, kills: int) -> list[tuple[float, str]]:
    """When whom to kill: seconds from the start, in order. The same for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - a schedule, no secret
    names, weights = list(_VICTIMS), list(_VICTIMS.values())
    at, plan = 0.0, []
    for _ in range(kills):
        at += rng.uniform(0.2 * GAP, 1.8 * GAP)
        plan.append((at, rng.choices(names, weights)[0]))
    return plan


class Storm:
    """The processes under fire."""

    def __init__(self, stack: Stack, stage: Stage, *, seed: int, crew: int, say: Say) -> None:
        """Start ``crew`` workers and half as many keepers."""
        self._stack, self._stage, self._say = stack, stage, say
        self._rng = random.Random(f"victims {seed}")  # noqa: S311 - a schedule, no secret
        self.felled: Counter[str] = Counter()
        """How often each kind of victim was."""
        self.deaths: list[Death] = []
        """Of workers, and the times they were frozen."""
        self.strays: list[str] = []
        """Processes that ended by themselves."""
        self._ripe: list[GuardedProcess] = []
        self._frozen: tuple[GuardedProcess, float] | None = None
        """The worker that is stopped, and the monotonic time at which it wakes."""
        self._woken = float("-inf")
        self._workers = [stack.worker() for _ in range(crew)]
        self._keepers = [stack.keeper() for _ in range(crew // 2)]
        self._begun = self._looked = self._spoke = time.monotonic()
        stack.await_workers(*self._workers)

    def rage(self, runs: int, plan: Sequence[tuple[float, str]]) -> None:
        """Submit the runs evenly while killing as planned.

        Raises:
            NotInTime: it took more than twice as long, and some minutes.
        """
        self._begun = time.monotonic()
        duration = plan[-1][0] if plan else 1.0
        self._say(f"{runs} runs, {len(plan)} kills in {duration:.0f} s")
        waiting, submitted = list(plan), 0
        while waiting or submitted < runs:
            now = time.monotonic() - self._begun
            if now > 2 * duration + _PATIENCE:
                raise NotInTime(f"{len(waiting)} kills of {len(plan)} were not done.", fix=BUSY)
            if waiting and waiting[0][0] <= now and self._can_fell(waiting[0][1]):
                self._fell(waiting.pop(0)[1])
            elif submitted < min(runs, now / duration * runs):
                self._stage.submit(KINDS[submitted % len(KINDS)])
                submitted += 1
            else:
                time.sleep(0.02)
            self._look_after()

    def calm(self) -> None:
        """Let everything that is left come to its end, and zombies do their worst."""

        def calmed() -> bool:
            woken = time.monotonic() > self._woken + _SETTLED
            return self._frozen is None and woken

        self._stack.until(calmed, "the last zombie", each=self._look_after)
        self._stage.await_ends(within=_PATIENCE, each=self._look_after)

    def _can_fell(self, victim: str) -> bool:
        """Whether it is there to be: half of the workers have had the time to claim.

        On a slow machine this puts the kill off; else workers would be killed at their start only.
        """
        if victim == "freeze" and self._frozen is not None:
            return False
        if victim in {"worker", "freeze"}:
            ripe = self._stage.workers(since=_RIPE)
            asleep = self._frozen[0] if self._frozen else None
            self._ripe = [w for w in self._workers if w.pid in ripe and w is not asleep]
            return len(self._ripe) >= max(1, len(self._workers) // 2)
        return True

    def _fell(self, victim: str) -> None:
        self.felled[victim] += 1
        match victim:
            case "worker":
                worker = self._rng.choice(self._ripe)
                self.deaths.append(Death(pid=worker.pid, at=datetime.now(UTC)))
                _end(worker)
                self._workers[self._workers.index(worker)] = self._stack.worker()
            case "freeze":
                worker = self._rng.choice(self._ripe)
                self.deaths.append(Death(pid=worker.pid, at=datetime.now(UTC)))
                worker.send_signal(signal.SIGSTOP)
                self._frozen = worker, time.monotonic() + self._stack.lease + _PAST
            case "keeper":
                index = self._rng.randrange(len(self._keepers))
                _end(self._keepers[index])
                self._keepers[index] = self._stack.keeper()
            case "valkey":
                self._stack.valkey.kill()
                self._stack.valkey.start()
            case _:
                self._stack.postgres.kill()
                self._stack.postgres.start()

    def _look_after(self) -> None:
        """What a person and a supervisor do: decide, wake, restart what fell over, tell."""
        self._stack.check()
        now = time.monotonic()
        if self._frozen is not None and now > self._frozen[1]:
            self._frozen[0].send_signal(signal.SIGCONT)
            self._frozen, self._woken = None, now
        if now - self._looked > _SETTLED:
            self._looked = now
            self._stage.settle()
            self._restart(self._workers, "worker")
            self._restart(self._keepers, "keeper")
        if now - self._spoke > _TOLD:
            self._spoke = now
            states = ", ".join(
                f"{n} {status}" for status, n in sorted(self._stage.statuses().items())
            )
            kills = ", ".join(f"{n} {name}" for name, n in sorted(self.felled.items()))
            self._say(f"{now - self._begun:4.0f} s: runs: {states}; felled: {kills or 'none'}")

    def _restart(self, processes: list[GuardedProcess], role: str) -> None:
        """Start again what ended though nobody killed it."""
        for index, process in enumerate(processes):
            if process.returncode is not None:
                self.strays.append(f"{role} {process.pid} {described(process.returncode)}")
                start = self._stack.worker if role == "worker" else self._stack.keeper
                processes[index] = start()


def _end(process: GuardedProcess) -> None:
    process.kill()
    if process.wait(_GONE) is None:
        raise DrillFailed(f"Process {process.pid} survives SIGKILL for {_GONE:.0f} s.")
