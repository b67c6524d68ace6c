"""How long runs waited for a worker, as their journals tell it."""

import pytest

from station.embedded.drills.delays import Death, Reclaim, owner, reclaims, waits
from station.embedded.drills.history import Happening
from tests.unit.embedded.histories import (
    CLAIMED,
    DRAINED,
    EXPIRED,
    FINISHED,
    SUBMITTED,
    WAITING,
    after,
    decided,
    record,
)

TAKEN_OVER = record([SUBMITTED, CLAIMED, EXPIRED, CLAIMED, FINISHED], gap=2.0)


def died(seconds: float, pid: int = 100) -> Death:
    return Death(pid=pid, at=after(seconds))


def test_the_delay_of_a_new_claim_is_counted_from_the_death() -> None:
    found = reclaims([TAKEN_OVER], [died(2.5)])
    assert found == [Reclaim(pid=100, freed=1.5, claimed=3.5)]


def test_a_death_of_another_worker_or_at_another_time_delays_no_claim() -> None:
    assert reclaims([TAKEN_OVER], [died(2.5, pid=999), died(1.5), died(30)]) == []


def test_a_death_after_the_lease_was_freed_delays_no_claim() -> None:
    assert reclaims([TAKEN_OVER], [died(5.0)]) == []


def test_of_two_deaths_the_first_counts() -> None:
    (found,) = reclaims([TAKEN_OVER], [died(3.0), died(2.5)][::-1])
    assert found.claimed == 3.5


def test_a_run_that_was_handed_back_was_not_reclaimed() -> None:
    handed_back = record([SUBMITTED, CLAIMED, DRAINED, CLAIMED, FINISHED], gap=2.0)
    assert reclaims([handed_back], [died(2.5)]) == []


def test_a_run_waits_from_its_submission_and_each_time_it_is_put_back() -> None:
    steps = [
        SUBMITTED,
        CLAIMED,
        EXPIRED,
        CLAIMED,
        WAITING,
        decided("repeat"),
        decided("repeat"),
        CLAIMED,
        FINISHED,
    ]
    assert waits(record(steps, gap=2.0)) == [2.0, 2.0, 2.0]


def test_a_run_that_nobody_claims_has_not_waited_yet() -> None:
    assert waits(record([SUBMITTED])) == []


@pytest.mark.parametrize(
    ("payload", "pid"),
    [
        ({"worker": "host:100:abc"}, 100),
        ({"worker": "fe80::1:100:abc"}, 100),
        ({"worker": "host"}, 0),
        ({"worker": "host:x:abc"}, 0),
        ({}, 0),
    ],
)
def test_a_claim_that_does_not_tell_its_owner_is_nobodys(payload: dict[str, str], pid: int) -> None:
    assert owner(Happening(seq=2, kind="run.claimed", at=after(0), payload=payload)) == pid
