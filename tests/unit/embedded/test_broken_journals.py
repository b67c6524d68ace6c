"""No judge stumbles over a journal that is broken: each says how the history is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from station.embedded.drills import bell, caps, crash, drain, storm, zombie
from station.embedded.drills.delays import Death
from station.embedded.drills.drain import Exit
from station.embedded.drills.nursery import Forked
from station.embedded.drills.outcome import Outcome
from station.embedded.drills.report import Report
from tests.unit.embedded.histories import (
    ANSWERED,
    CALLED,
    CLAIMED,
    DRAINED,
    EXPIRED,
    FINISHED,
    ID,
    RETURNED,
    SUBMITTED,
    WAITING,
    Step,
    after,
    decided,
    effect,
    in_doubt,
    record,
)
from tests.unit.embedded.outcomes import outcome

Judge = Callable[[Report, Outcome], None]
JUDGES: Mapping[str, Judge] = {
    "bell": lambda report, seen: bell.judge(report, seen, 16),
    "caps": lambda report, seen: caps.judge(report, seen, [], caps.NEVER),
    "crash": lambda report, seen: crash.judge(
        report, seen, {ID: "note"}, [Forked(point="after-intent", pid=100, returncode=-9)]
    ),
    "drain": lambda report, seen: drain.judge(
        report, seen, [Exit(seconds=1.0, returncode=0, forgotten=True)], slow={ID}, through={ID}
    ),
    "storm": lambda report, seen: storm.judge(
        report, seen, {"worker": 1}, [Death(pid=100, at=after(0))], []
    ),
    "zombie": lambda report, seen: zombie.judge(report, seen, {"sending": ID}),
}
WHOLE = [
    *(SUBMITTED, CLAIMED, ANSWERED, CALLED, RETURNED, EXPIRED, DRAINED, WAITING),
    *(decided("repeat"), decided("happened"), FINISHED),
]
TORN: list[Step] = [(kind, {}) for kind, _ in WHOLE]


def violations(judge: Judge, seen: Outcome) -> list[str]:
    report = Report(drill="tested", promise="it holds")
    judge(report, seen)
    return report.violations


@pytest.mark.parametrize("name", JUDGES)
def test_every_judge_names_a_lost_run(name: str) -> None:
    lost = Outcome(runs=[], submitted=frozenset({ID}))
    found = violations(JUDGES[name], lost)
    assert any(text.startswith(f"lost_run: run {ID}") for text in found)


@pytest.mark.parametrize("name", JUDGES)
def test_every_judge_names_a_journal_without_entries(name: str) -> None:
    empty = replace(record(in_doubt("repeat")), journal=[])
    found = violations(JUDGES[name], outcome(empty))
    assert any(text.startswith("claim_without_fence") for text in found)


@settings(deadline=None)  # a busy machine is no failure
@given(
    steps=st.lists(st.sampled_from([*WHOLE, *TORN]), max_size=14),
    fence=st.integers(0, 3),
    seen_effects=st.integers(0, 2),
)
@pytest.mark.parametrize("name", JUDGES)
def test_no_journal_is_too_broken_to_be_judged(
    name: str, steps: Sequence[Step], fence: int, seen_effects: int
) -> None:
    broken = record(steps, fence=fence)
    seen = outcome(broken, effects=[effect()] * seen_effects)
    history = [str(violation) for violation in seen.violations]
    found = violations(JUDGES[name], seen)
    assert set(history) <= set(found)
