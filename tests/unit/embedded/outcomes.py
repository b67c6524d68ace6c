"""Hand-made outcomes of drills, and what their judges find of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from station.embedded.drills.history import Effect, RunRecord
from station.embedded.drills.outcome import Outcome
from station.embedded.drills.report import Report


def outcome(
    *runs: RunRecord, effects: Sequence[Effect] = (), asked: int | None = None, **changes: Any
) -> Outcome:
    """What stands when everybody acknowledged was carried, and no answer was asked for twice."""
    made = Outcome(
        runs=runs,
        effects=effects,
        submitted=frozenset(run.run_id for run in runs),
        asked={run.run_id: run.steps if asked is None else asked for run in runs},
    )
    return replace(made, **changes)


def found(judge: Callable[..., None], *arguments: Any) -> list[str]:
    report = Report(drill="tested", promise="it holds")
    judge(report, *arguments)
    return report.violations


def said(violations: list[str], text: str) -> bool:
    """The one violation there is says ``text``."""
    return len(violations) == 1 and text in violations[0]
