"""``crash`` can be broken: what it counts, held against what was promised."""

import signal
from collections.abc import Sequence
from typing import Any

import pytest

from station.embedded.drills import crash
from station.embedded.drills.nursery import Forked
from station.embedded.drills.report import Report
from tests.unit.embedded.histories import (
    ANSWERED,
    CALLED,
    CLAIMED,
    CONCLUDED,
    EXPIRED,
    FINISHED,
    RETURNED,
    SUBMITTED,
    WAITING,
    Step,
    claimed,
    decided,
    effect,
    in_doubt,
    record,
    without,
)
from tests.unit.embedded.outcomes import outcome, said


def victim(point: str, pid: int, passage: int = 1, returncode: int = -signal.SIGKILL) -> Forked:
    return Forked(point=point, passage=passage, pid=pid, returncode=returncode)


INTENT = {("note", "after-intent", 1): crash.EXPECTED["note", "after-intent", 1]}
AGAIN = [
    *in_doubt("repeat", first=1)[:8],
    *(claimed(2), CALLED, EXPIRED, CLAIMED, WAITING, decided("repeat")),
    *(CLAIMED, CALLED, RETURNED, CONCLUDED, FINISHED),
]
AGAIN_SILENTLY = [
    *in_doubt("repeat", first=1)[:8],
    *(claimed(2), CALLED, EXPIRED),
    *(CLAIMED, CALLED, RETURNED, CONCLUDED, FINISHED),
]


def crash_found(
    steps: Sequence[Step],
    victims: Sequence[Forked] = (victim("after-intent", 1),),
    *,
    expected: Any = INTENT,
    again: Sequence[str] = (),
    asked: int = 2,
    gap: float = 1.0,
) -> list[str]:
    """What the drill finds of a run of ``note`` whose only effect was where it had to be."""
    called = max(n for n, step in enumerate(steps) if step[0] == "tool.called")
    seen = outcome(record(steps, gap=gap), effects=[effect(gap * called + 0.1)], asked=asked)
    report = Report(drill="crash", promise="it holds")
    crash.judge(report, seen, {7: "note"}, victims, expected=expected, again=again)
    return report.violations


def test_crash_holds_when_a_person_was_asked_and_nothing_was_repeated() -> None:
    assert crash_found(in_doubt("repeat", first=1)) == []


@pytest.mark.parametrize("returncode", [0, 1, -signal.SIGTERM, None])
def test_crash_breaks_when_a_process_did_not_come_to_its_point(returncode: int | None) -> None:
    alive = Forked(point="after-intent", passage=1, pid=1, returncode=returncode)
    violations = crash_found(in_doubt("repeat", first=1), [alive])
    assert said(violations, f"ended with {returncode}")


def test_crash_breaks_when_nobody_died_at_a_point() -> None:
    more = {**INTENT, ("note", "after-send", 1): crash.EXPECTED["note", "after-send", 1]}
    violations = crash_found(in_doubt("repeat", first=1), expected=more)
    assert said(violations, "nobody died on [('note', 'after-send', 1)]")


def test_crash_breaks_when_the_model_is_asked_once_too_often() -> None:
    assert said(crash_found(in_doubt("repeat", first=1), asked=3), "requests=3")


def test_crash_breaks_when_the_victim_died_at_another_entry_or_the_fence_differs() -> None:
    early = [SUBMITTED, claimed(1), EXPIRED, CLAIMED, ANSWERED, CALLED, RETURNED]
    (broken, asked) = crash_found([*early, CONCLUDED, FINISHED])
    assert "fence=2, last='run.claimed'" in broken
    assert "a person was asked 0 times, not 1" in asked


def test_crash_breaks_when_a_lost_bell_is_not_made_up_for() -> None:
    (late,) = crash_found(in_doubt("repeat", first=1), gap=21.0)
    assert "it waited for [21.0, 21.0] s" in late


def test_crash_holds_when_a_person_is_asked_again_after_a_second_death() -> None:
    two = [victim("after-intent", 1), victim("after-intent", 2)]
    assert crash_found(AGAIN, two, again=["after-intent"]) == []


def test_crash_breaks_when_a_call_is_repeated_silently_after_a_second_death() -> None:
    two = [victim("after-intent", 1), victim("after-intent", 2)]
    (differs, asked) = crash_found(AGAIN_SILENTLY, two, again=["after-intent"])
    assert "decisions=('repeat',)" in differs
    assert "asked 1 times, not 2" in asked


def test_crash_breaks_when_there_was_no_second_death() -> None:
    violations = crash_found(in_doubt("repeat", first=1), again=["after-intent"])
    assert said(violations, "died repeating a call: [], not ['after-intent']")


def test_crash_names_a_claim_that_left_no_entry_and_judges_the_others() -> None:
    traceless = without(record([SUBMITTED, CLAIMED, FINISHED], run_id=8), "run.claimed")
    seen = outcome(record(in_doubt("repeat", first=1)), traceless, effects=[effect(9.1)], asked=3)
    report = Report(drill="crash", promise="it holds")
    killed = [victim("after-intent", 1)]
    crash.judge(report, seen, {7: "note", 8: "note"}, killed, expected=INTENT, again=[])
    assert said(report.violations[-1:], "requests=3")
    assert {text.partition(":")[0] for text in report.violations[:-1]} == {
        "gap_in_journal",
        "ended_without_owner",
        "claim_without_fence",
    }


def test_crash_names_a_run_whose_row_is_gone() -> None:
    seen = outcome(submitted=frozenset({7}))
    report = Report(drill="crash", promise="it holds")
    crash.judge(report, seen, {7: "note"}, [victim("after-intent", 1)], expected={}, again=[])
    assert said(report.violations, "lost_run: run 7")
