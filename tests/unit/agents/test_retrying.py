"""What a retry policy may say, what it means, and what is refused."""

from typing import Any

import pytest

from agents.retrying import RETRYABLE, RetryPolicy, parse, stored
from agents.services import Definition
from station.core.errors import InvalidInput

ONE: dict[str, Any] = {"on": ["model_unavailable"]}


def policy(**changes: Any) -> RetryPolicy:
    found = parse("retry", ONE | changes)
    assert found is not None
    return found


@pytest.mark.parametrize("value", [None, {}])
def test_nothing_is_no_policy(value: object) -> None:
    assert parse("retry", value) is None


def test_what_is_left_out_has_its_default() -> None:
    assert policy().values() == {
        "on": ["model_unavailable"], "at_most": 3, "backoff": 10.0, "longest": 300.0,
    }  # fmt: skip
    assert policy(backoff="20m").longest == 1200


def test_durations_are_texts_with_a_unit_or_seconds() -> None:
    assert policy(backoff="1m30s", longest=120) == policy(backoff=90, longest="2m")
    assert policy(backoff=0.1).document()["backoff"] == "100ms"


def test_a_policy_survives_both_of_its_forms() -> None:
    one = policy(on=list(RETRYABLE), at_most=20, backoff=0.25, longest="24h")
    assert parse("retry", one.document()) == one
    assert stored(one.values()) == one
    assert stored(None) is None


def test_a_code_that_is_named_twice_counts_once() -> None:
    assert policy(on=["tools_unavailable", "model_malformed", "tools_unavailable"]).on == (
        "tools_unavailable",
        "model_malformed",
    )


def test_the_delay_doubles_up_to_the_longest() -> None:
    one = policy(backoff=10, longest=60)
    assert [one.delay(retries) for retries in range(5)] == [10, 20, 40, 60, 60]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "retry: must be an object"),
        ("3 times", "retry: must be an object"),
        (ONE | {"atmost": 3}, "retry.atmost: is not known Did you mean at_most?"),
        (ONE | {"jitter": 3}, "retry.jitter: is not known Known are on, at_most, backoff, longest"),
        ({"at_most": 3}, "retry.on: is required Use one or more of: model_unavailable, "),
        ({"on": []}, "retry.on: must be a list of error codes, not empty"),
        ({"on": "model_unavailable"}, "retry.on: must be a list"),
        ({"on": ["model_unavailable", "timeout"]}, "retry.on[1]: 'timeout' is no failure that may"),
        ({"on": [["x"]]}, "retry.on[0]: ['x'] is no failure"),
        (ONE | {"at_most": 0}, "retry.at_most: must be a whole number from 1 to 20"),
        (ONE | {"at_most": 21}, "retry.at_most: must be a whole number from 1 to 20"),
        (ONE | {"at_most": True}, "retry.at_most: must be a whole number"),
        (ONE | {"at_most": None}, "retry.at_most: must be a whole number"),
        (ONE | {"backoff": 0}, "retry.backoff: must be from 1 ms to 1 h"),
        (ONE | {"backoff": 0.0001}, "retry.backoff: must be from 1 ms to 1 h"),
        (ONE | {"backoff": "2h"}, "retry.backoff: must be from 1 ms to 1 h"),
        (ONE | {"backoff": "10"}, "retry.backoff: '10' is no duration Write it like 10s"),
        (ONE | {"backoff": True}, "retry.backoff: True is no duration"),
        (ONE | {"backoff": float("nan")}, "retry.backoff: nan is no duration"),
        (ONE | {"backoff": 10**400}, "is no duration"),
        (ONE | {"longest": 5}, "retry.longest: must be from 10s, the backoff, to 24 h"),
        (ONE | {"longest": "25h"}, "retry.longest: must be from 10s, the backoff, to 24 h"),
        (ONE | {"longest": []}, "retry.longest: [] is no duration"),
    ],
)
def test_a_policy_that_cannot_work_is_refused_where_it_is_wrong(value: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Definition(prompt="You help.", retry=value).check()
    assert words in str(refused.value)
