"""What a drill says while it runs, and what it found."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the caller asked for. A drill looks at what concerns it."""

    seed: int = 1
    runs: int | None = None
    kills: int | None = None


@dataclass(kw_only=True)
class Report:
    """What a drill counted, and each way in which the promise was broken."""

    drill: str
    promise: str
    seed: int
    counted: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def held(self) -> bool:
        """Whether the promise held."""
        return not self.violations

    def expect(self, holds: object, otherwise: str) -> None:
        """Note a violation unless ``holds`` is true."""
        if not holds:
            self.violations.append(otherwise)

    def count(self, **figures: Any) -> None:
        """Add figures to what was counted."""
        self.counted.update(figures)

    def as_json(self) -> Mapping[str, Any]:
        """The report for programs."""
        return {
            "drill": self.drill,
            "promise": self.promise,
            "seed": self.seed,
            "held": self.held,
            "seconds": round(time.monotonic() - self.began, 1),
            "counted": self.counted,
            "violations": self.violations,
        }

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
