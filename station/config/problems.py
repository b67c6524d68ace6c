"""What can be wrong with a configuration, and the one error that carries all of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from station.core.errors import Kind, StationError


class Refused(ValueError):
    """A value cannot be accepted. The words never quote the value: it may be a secret."""

    def __init__(self, problem: str, *, fix: str = "") -> None:
        """``problem`` continues the sentence "<key> …"; ``fix`` is a sentence or ""."""
        super().__init__(problem)
        self.problem = problem
        self.fix = fix


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing to mend."""

    path: str
    """The key (``api.port``), or the variable or file when the problem is not a key's."""
    source: str
    """Where the value came from: a variable, ``file:line``, or ``environment``; "" if unset."""
    problem: str
    fix: str = ""

    def __str__(self) -> str:
        origin = f" ({self.source})" if self.source else ""
        return f"{self.path}{origin}: {self.problem}. {self.fix}".rstrip()


class ConfigError(StationError):
    """The configuration is not valid."""

    code = "invalid_configuration"
    kind = Kind.INVALID

    def __init__(self, problems: Iterable[Problem]) -> None:
        """All problems found, in the order in which they are told."""
        self.problems = tuple(problems)
        count = len(self.problems)
        heading = f"The configuration has {count} problem{'' if count == 1 else 's'}:"
        super().__init__("\n  ".join([heading, *map(str, self.problems)]))

    def details(self) -> dict[str, Any]:
        return {
            "errors": [
                {"field": p.path, "source": p.source, "problem": p.problem, "fix": p.fix}
                for p in self.problems
            ]
        }
