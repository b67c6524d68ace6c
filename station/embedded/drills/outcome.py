"""All that a drill is judged by, once everything stands still. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from station.embedded.drills.history import Effect, RunRecord, Violation, check
from station.embedded.drills.report import Report
from station.embedded.drills.scripts import WRITING


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The runs with their journals, and what was seen from outside."""

    runs: Sequence[RunRecord]
    effects: Sequence[Effect] = ()
    submitted: frozenset[int] = frozenset()
    """The runs whose submission was acknowledged."""
    asked: Mapping[int, int] = field(default_factory=dict)
    """How many requests a model got, by run."""
    in_time: bool = True
    """Whenever the drill waited for runs to end, they did."""

    @property
    def violations(self) -> list[Violation]:
        """What the history checker finds; the person of a drill sees the effects."""
        return check(
            self.runs, self.effects, writing=WRITING, submitted=self.submitted, witnessed=True
        )

    def effects_of(self, run_id: int) -> int:
        """How often a tool had an effect for the run."""
        return sum(effect.key.startswith(f"{run_id}:") for effect in self.effects)

    def judge_history(self, report: Report) -> None:
        """Note every violation of the history, and every run that did not succeed."""
        report.blame(self.violations)
        report.expect(self.in_time, "the runs did not all end in time")
        for run in self.runs:
            report.expect(
                run.status == "succeeded", f"not_succeeded: {run.status}: {run.error}",
                run=run.run_id,
            )  # fmt: skip
        report.count(runs=len(self.runs), effects=len(self.effects))
