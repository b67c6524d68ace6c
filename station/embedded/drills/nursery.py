"""Where drills get workers quickly, and processes that kill or stop themselves at a named point."""

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from station.core.faults import POINTS
from station.embedded.drills.failures import DrillFailed
from station.embedded.drills.stack import Stack


@dataclass(kw_only=True)
class Forked:
    """A process of Station; with a ``point``, it will not get beyond that."""

    pid: int
    point: str = ""
    passage: int = 1
    returncode: int | None = None
    """How it was seen to have ended; negative is the signal that killed it."""

    def __str__(self) -> str:
        return self.point if self.passage == 1 else f"{self.point}, passage {self.passage}"

    @property
    def stopped(self) -> bool:
        """Whether it has stopped and goes on only when it is told to; proc(5), the third field."""
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it has not ended."""
        if self.returncode is None:
            os.kill(self.pid, number)


@dataclass
class Nursery:
    """Starts :mod:`station.embedded.drills.victim` and has it fork processes.

    A worker that is forked is up in a second; one that is started loads libraries for four.
    """

    stack: Stack
    _forked: list[Forked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._orders = self.stack.folder / "orders"
        self._orders.touch()
        self._said = self._orders.with_name("orders.said")
        program = "station.embedded.drills.victim"
        self._process = self.stack.run(program, str(self._orders))

    def worker(self, *, slots: int) -> Forked:
        """A worker that carries ``slots`` runs at once."""
        return self.fork("", slots=slots)

    def fork(
        self,
        point: str,
        *,
        passage: int = 1,
        slots: int = 1,
        number: signal.Signals = signal.SIGKILL,
        words: Sequence[str] = ("worker",),
    ) -> Forked:
        """A process ``station WORD…`` that gets the signal when it comes to the point.

        A worker carries ``slots`` runs at once.
        """
        assert not point or point in POINTS
        order = {
            "signal": number.name,
            "point": point,
            "passage": passage,
            "words": list(words),
            "config": str(self.stack.config(slots=slots)),
        }
        with self._orders.open("a") as file:
            file.write(f"{json.dumps(order)}\n")
        place = len(self._forked)

        def forked() -> int:
            pids = self._words("forked")
            return int(pids[place][0]) if len(pids) > place else 0

        process = Forked(
            point=point, passage=passage, pid=self.stack.until(forked, f"the fork for {point}")
        )
        self._forked.append(process)
        return process

    def await_end(self, *processes: Forked) -> None:
        """Wait until the processes have ended."""
        names = ", ".join(map(str, processes))
        self.stack.until(lambda: all(map(self.ended, processes)), f"the death at {names}")

    def ended(self, process: Forked) -> bool:
        """Whether the process has ended; then it says how."""
        if self._process.returncode is not None:
            raise DrillFailed(f"The nursery ended with {self._process.returncode}.")
        for pid, status in self._words("ended"):
            if int(pid) == process.pid:
                process.returncode = int(status)
        return process.returncode is not None

    def _words(self, verb: str) -> list[list[str]]:
        """What the parent said of that kind, whole lines."""
        if not self._said.exists():
            return []
        lines = self._said.read_text().rpartition("\n")[0].splitlines()
        return [line.split()[1:] for line in lines if line.startswith(verb)]
