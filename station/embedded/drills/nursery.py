"""Where drills get processes that kill or stop themselves at a named point in the code."""

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from station.core.faults import POINTS
from station.embedded.drills.failures import DrillFailed
from station.embedded.drills.stack import Stack


@dataclass(kw_only=True)
class Victim:
    """A process of Station that will come to a point. ``at`` is when it was seen dead."""

    point: str
    passage: int
    pid: int
    returncode: int | None = None
    at: datetime | None = None

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
    """Starts :mod:`station.embedded.drills.victim` and has it fork victims."""

    stack: Stack
    _victims: list[Victim] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._orders = self.stack.folder / "orders"
        self._orders.touch()
        self._said = self._orders.with_name("orders.said")
        program = "station.embedded.drills.victim"
        self._process = self.stack.run(program, str(self._orders))

    def fork(
        self,
        point: str,
        *,
        passage: int = 1,
        slots: int = 1,
        number: signal.Signals = signal.SIGKILL,
        words: Sequence[str] = ("worker",),
    ) -> Victim:
        """A process ``station WORD…`` that gets the signal when it comes to the point.

        A worker carries ``slots`` runs at once.
        """
        assert point in POINTS
        order = {
            "signal": number.name,
            "point": point,
            "passage": passage,
            "words": list(words),
            "config": str(self.stack.config(slots=slots)),
        }
        with self._orders.open("a") as file:
            file.write(f"{json.dumps(order)}\n")
        place = len(self._victims)

        def forked() -> int:
            pids = self._words("forked")
            return int(pids[place][0]) if len(pids) > place else 0

        victim = Victim(
            point=point, passage=passage, pid=self.stack.until(forked, f"the fork for {point}")
        )
        self._victims.append(victim)
        return victim

    def await_end(self, *victims: Victim) -> None:
        """Wait until the victims have ended."""
        names = ", ".join(map(str, victims))
        self.stack.until(lambda: all(map(self.ended, victims)), f"the death at {names}")

    def ended(self, victim: Victim) -> bool:
        """Whether the victim has ended; then it says how."""
        if self._process.returncode is not None:
            raise DrillFailed(f"The victims' parent ended with {self._process.returncode}.")
        for pid, status in self._words("ended"):
            if int(pid) == victim.pid and victim.returncode is None:
                victim.returncode = int(status)
                victim.at = datetime.now(UTC)
        return victim.returncode is not None

    def _words(self, verb: str) -> list[list[str]]:
        """What the parent said of that kind, whole lines."""
        if not self._said.exists():
            return []
        lines = self._said.read_text().rpartition("\n")[0].splitlines()
        return [line.split()[1:] for line in lines if line.startswith(verb)]
