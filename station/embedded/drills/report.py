"""What a drill says while it runs, and what it found."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from station.core.errors import StationError
from station.embedded.drills.history import Violation

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the caller asked for; ``None``: nothing. Each drill uses some of it."""

    seed: int | None = None
    runs: int | None = None
    kills: int | None = None


@dataclass(kw_only=True)
class Report:
    """What a drill counted, and each way in which the promise was broken."""

    drill: str
    promise: str
    counted: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    offenders: set[int] = field(default_factory=set)
    """The runs that violations are about."""
    kept: Path | None = None
    """Where the logs and journals of a drill are that did not hold."""
    began: float = field(default_factory=time.monotonic)

    @property
    def held(self) -> bool:
        """Whether the promise held."""
        return not self.violations

    def expect(self, holds: object, otherwise: str, *, run: int | None = None) -> None:
        """Note a violation, of ``run`` where it is about one, unless ``holds`` is true."""
        if not holds:
            self.violations.append(otherwise if run is None else f"run {run}: {otherwise}")
            self.offenders |= set() if run is None else {run}

    def blame(self, found: Iterable[Violation]) -> None:
        """Note what the history checker found."""
        for violation in found:
            self.violations.append(str(violation))
            self.offenders.add(violation.run_id)

    def count(self, **figures: Any) -> None:
        """Add figures to what was counted."""
        self.counted.update(figures)

    def as_json(self) -> Mapping[str, Any]:
        """The report for programs."""
        return {
            "drill": self.drill,
            "promise": self.promise,
            "carried_out": True,
            "held": self.held,
            "seconds": round(time.monotonic() - self.began, 1),
            "counted": self.counted,
            "violations": self.violations,
            "kept": None if self.kept is None else str(self.kept),
        }

    def not_carried_out(self, error: BaseException) -> Mapping[str, Any]:
        """The report for programs on a drill that could not say whether the promise holds."""
        reason, fix = str(error) or type(error).__name__, ""
        if isinstance(error, StationError):
            reason, fix = error.message, error.fix
        return {**self.as_json(), "carried_out": False, "held": None, "reason": reason, "fix": fix}

    def lines(self) -> list[str]:
        """The report for people."""
        width = max((len(name) for name in self.counted), default=0)
        verdict = "held" if self.held else f"BROKEN, {len(self.violations)} violation(s)"
        return [
            *(
                f"  {name.replace('_', ' '):<{width}}  {value}"
                for name, value in self.counted.items()
            ),
            *(f"  VIOLATION {text}" for text in self.violations),
            f"{self.drill}: {self.promise}: {verdict}",
        ]


def percentile(values: list[float], part: float) -> float:
    """The value below which ``part`` (0 to 1) of the values lie; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0
