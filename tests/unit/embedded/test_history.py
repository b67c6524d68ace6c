"""The history checker names every way in which a promise can be broken."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from station.embedded.drills.history import (
    Effect,
    Happening,
    Reclaim,
    RunRecord,
    check,
    reclaims,
)

WRITING = frozenset({"tools__note"})
START = datetime(2026, 1, 1, tzinfo=UTC)
ID = 7
_CALL = {"step": 1, "index": 0, "call_id": "call_1_0", "tool": "tools__note"}
CLAIMED: tuple[str, dict[str, Any]] = ("run.claimed", {"worker": "host:100:abc"})
CALLED: tuple[str, dict[str, Any]] = ("tool.called", {**_CALL, "attempt": 1})
RETURNED: tuple[str, dict[str, Any]] = ("tool.returned", {**_CALL, "is_error": False})
EXPIRED: tuple[str, dict[str, Any]] = ("run.released", {"reason": "lease_expired"})
WAITING: tuple[str, dict[str, Any]] = ("run.waiting", {"reason": "doubt"})
ANSWERED: tuple[str, dict[str, Any]] = ("model.answered", {"step": 1})
FINISHED: tuple[str, dict[str, Any]] = ("run.finished", {"status": "succeeded"})
SUBMITTED: tuple[str, dict[str, Any]] = ("run.submitted", {})
HEALTHY = [SUBMITTED, CLAIMED, ANSWERED, CALLED, RETURNED, ANSWERED, FINISHED]


def decided(decision: str) -> tuple[str, dict[str, Any]]:
    return ("run.decided", {"call_id": "call_1_0", "decision": decision})


def in_doubt(decision: str) -> list[tuple[str, dict[str, Any]]]:
    """A worker died with a call under way, and a person decided about it."""
    start = [SUBMITTED, CLAIMED, ANSWERED, CALLED, EXPIRED, CLAIMED, WAITING, decided(decision)]
    again = [CALLED, RETURNED] if decision == "repeat" else []
    return [*start, CLAIMED, *again, ANSWERED, FINISHED]


def run(steps: Iterable[tuple[str, dict[str, Any]]] = HEALTHY, **changes: Any) -> RunRecord:
    """A run whose steps came one second after the other, the first at START."""
    journal = [
        Happening(seq=number, kind=kind, at=START + timedelta(seconds=number - 1), payload=payload)
        for number, (kind, payload) in enumerate(steps, start=1)
    ]
    record = RunRecord(
        run_id=ID,
        status="succeeded",
        fence=sum(each.kind == "run.claimed" for each in journal),
        last_seq=len(journal),
        journal=journal,
    )
    return replace(record, **changes)


def effect(second: float = 3.5, key: str = f"{ID}:1:0") -> Effect:
    return Effect(key=key, at=START + timedelta(seconds=second))


def names(record: RunRecord, *effects: Effect, submitted: Iterable[int] = ()) -> list[str]:
    found = check([record], effects, writing=WRITING, submitted=frozenset(submitted))
    return [violation.name for violation in found]


def test_a_healthy_run_violates_nothing() -> None:
    assert names(run(), effect(), submitted=[ID]) == []


@pytest.mark.parametrize(("decision", "times"), [("happened", 1), ("repeat", 1), ("repeat", 2)])
def test_a_person_may_say_it_happened_or_have_it_repeated(decision: str, times: int) -> None:
    assert names(run(in_doubt(decision)), *[effect()] * times) == []


def test_a_run_that_waits_for_a_person_is_not_lost() -> None:
    steps = in_doubt("repeat")[:7]
    assert names(run(steps, status="waiting")) == []


def test_an_acknowledged_run_without_a_row_is_lost() -> None:
    assert names(run(), effect(), submitted=[ID, 8]) == ["lost_run"]


@pytest.mark.parametrize("status", ["queued", "running", "waiting"])
def test_a_run_that_never_ends_is_lost(status: str) -> None:
    assert names(run([SUBMITTED, CLAIMED], status=status)) == ["lost_run"]


def test_a_second_ending_is_found() -> None:
    found = names(run([*HEALTHY, FINISHED]), effect())
    assert found == ["two_terminal_events", "event_after_the_end"]


def test_a_step_behind_the_ending_is_found() -> None:
    assert names(run([*HEALTHY, ANSWERED]), effect()) == ["event_after_the_end"]


def test_a_gap_in_the_numbers_is_found() -> None:
    whole = run()
    journal = [each for each in whole.journal if each.seq != 6]
    assert names(replace(whole, journal=journal), effect()) == ["gap_in_journal"]


def test_a_lost_last_entry_is_found() -> None:
    whole = run()
    found = names(replace(whole, journal=whole.journal[:-1]), effect())
    assert found == ["gap_in_journal", "row_differs_from_journal"]


def test_a_row_that_goes_on_after_its_ending_is_found() -> None:
    found = names(run(status="running"), effect())
    assert found == ["lost_run", "row_differs_from_journal"]


def test_a_claim_of_a_running_run_is_found() -> None:
    assert names(run([SUBMITTED, CLAIMED, CLAIMED, ANSWERED, FINISHED])) == ["two_owners"]


@pytest.mark.parametrize("idle", [EXPIRED, WAITING])
def test_work_of_a_worker_that_owns_the_run_no_more_is_found(
    idle: tuple[str, dict[str, Any]],
) -> None:
    steps = [SUBMITTED, CLAIMED, idle, ANSWERED, decided("happened"), CLAIMED, FINISHED]
    assert names(run(steps)) == ["work_without_owner"]


def test_a_claim_that_did_not_raise_the_fence_is_found() -> None:
    assert names(run(fence=0), effect()) == ["claim_without_fence"]


def test_an_effect_repeated_without_a_person_is_found() -> None:
    assert names(run(), effect(), effect()) == ["effect_repeated"]


def test_one_effect_more_than_a_person_asked_for_is_found() -> None:
    assert names(run(in_doubt("repeat")), *[effect()] * 3) == ["effect_repeated"]
    assert names(run(in_doubt("happened")), *[effect()] * 2) == ["effect_repeated"]


def test_an_effect_whose_call_is_not_in_the_journal_is_found() -> None:
    stray = effect(key=f"{ID}:2:0")
    assert names(run(), effect(), stray) == ["effect_without_intent"]


def test_an_effect_before_its_intent_was_stored_is_found() -> None:
    assert names(run(), effect(second=1.0)) == ["effect_without_intent"]


@pytest.mark.parametrize("key", ["", "8:1:0"])
def test_an_effect_of_no_run_is_found(key: str) -> None:
    assert names(run(), effect(), effect(key=key)) == ["effect_without_intent"]


def test_a_success_whose_effect_never_happened_is_found() -> None:
    assert names(run()) == ["success_without_effect"]


def test_a_call_that_a_person_wrongly_said_happened_is_found() -> None:
    assert names(run(in_doubt("happened"))) == ["success_without_effect"]


def test_the_delay_of_a_new_claim_is_counted_from_the_kill() -> None:
    record = run(in_doubt("happened"))
    killed = START + timedelta(seconds=3)
    assert reclaims([record], [(100, killed)]) == [Reclaim(freed=1.0, claimed=2.0)]


def test_a_kill_of_another_worker_or_at_another_time_delays_no_claim() -> None:
    record = run(in_doubt("happened"))
    kills = [(999, START + timedelta(seconds=3)), (100, START + timedelta(seconds=30))]
    assert reclaims([record], kills) == []


def test_a_run_that_was_handed_back_was_not_reclaimed() -> None:
    steps = [SUBMITTED, CLAIMED, ("run.released", {"reason": "drained"}), CLAIMED, FINISHED]
    assert reclaims([run(steps)], [(100, START + timedelta(seconds=2))]) == []
