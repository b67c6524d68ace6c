"""The history checker names every way in which a promise can be broken."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from station.embedded.drills.history import Effect, RunRecord, check
from tests.unit.embedded.histories import (
    ANSWERED,
    CALLED,
    CLAIMED,
    CONCLUDED,
    EXPIRED,
    FINISHED,
    HEALTHY,
    ID,
    RETURNED,
    SUBMITTED,
    WAITING,
    WRITES,
    Step,
    decided,
    effect,
    ended,
    in_doubt,
    record,
)

WRITING = frozenset({WRITES})


def names(
    run: RunRecord, *effects: Effect, submitted: Iterable[int] = (ID,), witnessed: bool = False
) -> list[str]:
    found = check(
        [run],
        effects,
        writing=WRITING,
        submitted=frozenset(submitted),
        witnessed=witnessed,
    )
    return [violation.name for violation in found]


def test_a_healthy_run_violates_nothing() -> None:
    assert names(record(), effect(), witnessed=True) == []


@pytest.mark.parametrize(
    ("decision", "seconds"),
    [("happened", [3.5]), ("repeat", [3.5]), ("repeat", [9.5]), ("repeat", [3.5, 9.5])],
)
def test_a_person_may_say_it_happened_or_have_it_repeated(
    decision: str, seconds: list[float]
) -> None:
    assert names(record(in_doubt(decision)), *map(effect, seconds)) == []


def test_a_person_who_sees_the_effects_has_none_repeated() -> None:
    steps = record(in_doubt("repeat"))
    assert names(steps, effect(3.5), effect(9.5), witnessed=True) == ["effect_repeated"]
    assert names(steps, effect(9.5), witnessed=True) == []


def test_a_run_that_waits_for_a_person_is_not_lost() -> None:
    steps = in_doubt("repeat")[:7]
    assert names(record(steps, status="waiting")) == []


@pytest.mark.parametrize("status", ["cancelled", "timed_out"])
@pytest.mark.parametrize("idle", [[SUBMITTED], [SUBMITTED, CLAIMED], in_doubt("repeat")[:7]])
def test_a_run_may_be_cancelled_or_run_out_of_time_in_any_state(
    status: str, idle: list[Step]
) -> None:
    assert names(record([*idle, ended(status)], status=status)) == []


def test_a_person_may_stop_a_run_in_doubt() -> None:
    steps = [*in_doubt("stop")[:8], decided("happened"), ended("failed")]
    assert names(record(steps, status="failed")) == []


def test_an_acknowledged_run_without_a_row_is_lost() -> None:
    assert names(record(), effect(), submitted=[ID, 8]) == ["lost_run"]


def test_a_row_that_nobody_was_acknowledged_for_is_a_stray() -> None:
    assert names(record(), effect(), submitted=[]) == ["stray_run"]
    unknown = check([record()], [effect()], writing=WRITING)
    assert unknown == []


@pytest.mark.parametrize(
    ("status", "steps"),
    [
        ("queued", [SUBMITTED]),
        ("running", [SUBMITTED, CLAIMED]),
        ("waiting", [SUBMITTED, CLAIMED, WAITING, ("run.cancel_requested", {})]),
    ],
)
def test_a_run_that_never_ends_is_lost(status: str, steps: list[Step]) -> None:
    assert names(record(steps, status=status)) == ["lost_run"]


def test_a_second_ending_is_found() -> None:
    found = names(record([*HEALTHY, FINISHED]), effect())
    assert found == ["two_terminal_events", "event_after_the_end"]


def test_a_step_behind_the_ending_is_found() -> None:
    later = ("model.retried", {"step": 3})
    assert names(record([*HEALTHY, later]), effect()) == ["event_after_the_end"]


def test_a_gap_in_the_numbers_is_found() -> None:
    whole = record()
    journal = [each for each in whole.journal if each.seq != 6]
    assert names(replace(whole, journal=journal, steps=1), effect()) == ["gap_in_journal"]


def test_a_lost_last_entry_is_found() -> None:
    whole = record()
    found = names(replace(whole, journal=whole.journal[:-1]), effect())
    assert found == ["gap_in_journal", "row_differs_from_journal"]


def test_a_row_that_goes_on_after_its_ending_is_found() -> None:
    found = names(record(status="running"), effect())
    assert found == ["lost_run", "row_differs_from_journal"]


@pytest.mark.parametrize("status", ["failed", "cancelled", "running", "queued"])
def test_a_row_whose_status_is_not_the_journals_is_found(status: str) -> None:
    assert "row_differs_from_journal" in names(record(status=status), effect())


def test_a_row_that_waits_for_a_worker_while_its_journal_says_otherwise_is_found() -> None:
    found = names(record([SUBMITTED, CLAIMED], status="queued"))
    assert found == ["lost_run", "row_differs_from_journal"]


def test_a_claim_of_a_running_run_is_found() -> None:
    assert names(record([SUBMITTED, CLAIMED, CLAIMED, ANSWERED, FINISHED])) == ["two_owners"]


@pytest.mark.parametrize("idle", [EXPIRED, WAITING])
@pytest.mark.parametrize(
    "late", [ANSWERED, WAITING, EXPIRED, ("model.retried", {"step": 1})], ids=lambda e: str(e[0])
)
def test_work_of_a_worker_that_owns_the_run_no_more_is_found(idle: Step, late: Step) -> None:
    steps = [SUBMITTED, CLAIMED, idle, late, decided("happened"), CLAIMED, FINISHED]
    assert names(record(steps)) == ["work_without_owner"]


@pytest.mark.parametrize("idle", [EXPIRED, WAITING])
@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_an_ending_by_a_worker_that_owns_the_run_no_more_is_found(idle: Step, status: str) -> None:
    steps = [SUBMITTED, CLAIMED, idle, ended(status)]
    assert names(record(steps, status=status)) == ["ended_without_owner"]


def test_a_step_that_was_answered_twice_is_found() -> None:
    steps = [SUBMITTED, CLAIMED, ANSWERED, EXPIRED, CLAIMED, ANSWERED, FINISHED]
    assert names(record(steps)) == ["step_answered_twice"]


def test_a_step_that_was_left_out_is_found() -> None:
    assert names(record([SUBMITTED, CLAIMED, CONCLUDED, FINISHED])) == ["step_answered_twice"]


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_row_that_counts_other_steps_than_were_answered_is_found(steps: int) -> None:
    assert names(record(steps=steps), effect()) == ["steps_miscounted"]


def test_a_second_result_of_a_call_is_found() -> None:
    steps = [SUBMITTED, CLAIMED, ANSWERED, CALLED, RETURNED, RETURNED, CONCLUDED, FINISHED]
    assert names(record(steps), effect()) == ["two_results"]


def test_a_result_of_a_call_that_a_person_said_happened_is_a_second_one() -> None:
    steps = [*in_doubt("happened")[:9], RETURNED, CONCLUDED, FINISHED]
    assert names(record(steps), effect()) == ["two_results"]


def test_a_claim_that_did_not_raise_the_fence_is_found() -> None:
    assert names(record(fence=0), effect()) == ["claim_without_fence"]


def test_an_effect_repeated_without_a_person_is_found() -> None:
    assert names(record(), effect(3.2), effect(3.8)) == ["effect_repeated"]


def test_one_effect_more_than_a_person_asked_for_is_found() -> None:
    assert names(record(in_doubt("repeat")), *[effect()] * 3) == ["effect_repeated"]
    assert names(record(in_doubt("happened")), *[effect()] * 2) == ["effect_repeated"]


@pytest.mark.parametrize("second", [4.5, 6.5])
def test_an_effect_after_the_result_of_its_call_is_found(second: float) -> None:
    assert names(record(), effect(second)) == ["effect_out_of_its_time"]


@pytest.mark.parametrize("decision", ["happened", "repeat"])
def test_an_effect_after_a_person_decided_and_before_it_was_announced_again_is_found(
    decision: str,
) -> None:
    assert names(record(in_doubt(decision)), effect(8.0)) == ["effect_out_of_its_time"]


def test_when_an_effect_came_whose_call_never_had_a_result_cannot_be_told() -> None:
    steps = [SUBMITTED, CLAIMED, ANSWERED, CALLED, ended("cancelled")]
    assert names(record(steps, status="cancelled"), effect(60.0)) == []


def test_an_effect_whose_call_is_not_in_the_journal_is_found() -> None:
    stray = effect(key=f"{ID}:2:0")
    assert names(record(), effect(), stray) == ["effect_without_intent"]


def test_an_effect_before_its_intent_was_stored_is_found() -> None:
    assert names(record(), effect(second=1.0)) == ["effect_without_intent"]


@pytest.mark.parametrize("key", ["", "8:1:0"])
def test_an_effect_of_no_run_is_found(key: str) -> None:
    assert names(record(), effect(), effect(key=key)) == ["effect_without_intent"]


def test_a_success_whose_effect_never_happened_is_found() -> None:
    assert names(record()) == ["success_without_effect"]


def test_a_call_that_a_person_wrongly_said_happened_is_found() -> None:
    assert names(record(in_doubt("happened"))) == ["success_without_effect"]
