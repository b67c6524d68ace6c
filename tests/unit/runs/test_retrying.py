"""Which failures of a run its agent's policy retries, and how long it waits."""

import pytest

from agents.retrying import RETRYABLE, RetryPolicy
from runs import ports
from runs.errors import OutputInvalid, StepLimitReached, ToolsUnavailable
from runs.ports import ModelAuth, ModelFailure, ModelRateLimited, ModelUnavailable
from runs.retrying import Retry, next_retry, used_up
from station.core.errors import StationError

POLICY = RetryPolicy(on=RETRYABLE, at_most=3, backoff=10, longest=300)


def asked(error: StationError, retries: int = 0, *, chance: float = 0.0) -> Retry | None:
    return next_retry(POLICY, retries, error, jitter=lambda: chance)


def test_the_codes_a_policy_may_name_are_those_of_failures_that_may_pass() -> None:
    kinds = [kind for kind in vars(ports).values() if isinstance(kind, type)]
    passing = {
        kind.code
        for kind in kinds
        if issubclass(kind, ModelFailure) and kind is not ModelFailure and not kind.permanent
    }
    # The deadline of a request is the end of the run's time: that run has timed out. While a
    # circuit is open, runs wait by themselves.
    others = {ports.ModelDeadline.code, ports.ModelCircuitOpen.code}
    assert passing - others | {ToolsUnavailable.code} == set(RETRYABLE)


def test_the_first_retry_waits_for_the_backoff_and_the_next_for_twice_as_long() -> None:
    assert asked(ModelUnavailable()) == Retry(number=1, at_most=3, delay=10)
    assert asked(ToolsUnavailable(), 1) == Retry(number=2, at_most=3, delay=20)


def test_chance_adds_a_little() -> None:
    retry = asked(ModelUnavailable(), chance=1.0)
    assert retry is not None
    assert retry.delay == 11


@pytest.mark.parametrize(("wanted", "delay"), [(5.0, 10), (45.0, 45), (1e300, 86400)])
def test_a_run_does_not_come_back_before_the_provider_wants_it(wanted: float, delay: float) -> None:
    retry = asked(ModelRateLimited(retry_after=wanted))
    assert retry is not None
    assert retry.delay == delay


@pytest.mark.parametrize(
    "error",
    [
        StepLimitReached(),
        OutputInvalid(),
        ModelAuth(),
        ModelRateLimited("The quota is used up.", permanent=True),
        StationError(),
    ],
)
def test_what_does_not_pass_is_not_retried(error: StationError) -> None:
    assert asked(error) is None


def test_a_failure_the_policy_does_not_name_is_not_retried() -> None:
    policy = RetryPolicy(on=("tools_unavailable",), at_most=3, backoff=10, longest=300)
    assert next_retry(policy, 0, ModelUnavailable()) is None
    assert next_retry(None, 0, ModelUnavailable()) is None


def test_an_error_says_how_often_the_run_was_retried() -> None:
    assert "retried once," in used_up(1)
    assert "retried 20 times," in used_up(20)
