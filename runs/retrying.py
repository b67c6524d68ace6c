"""Whether a failed run goes on by its agent's retry policy, and when."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from agents.retrying import LONGEST_DELAY, RetryPolicy
from runs.ports import ModelFailure
from station.core.errors import StationError

_JITTER = 0.1
"""The most that chance adds, as a part of the delay: runs that failed together come back apart."""


@dataclass(frozen=True, kw_only=True)
class Retry:
    """The retry a policy wants: its number, and the seconds to wait before it."""

    number: int
    at_most: int
    delay: float


def next_retry(
    policy: RetryPolicy | None,
    retries: int,
    error: StationError,
    *,
    jitter: Callable[[], float] = random.random,
) -> Retry | None:
    """What the policy wants after ``error``; ``None`` where that failure is final.

    Whether there may be one more is not decided here: the row counts, see
    :func:`runs.transitions.retry_later`.

    Args:
        retries: how often the run was retried before.
        jitter: a number from 0 to 1.
    """
    if policy is None or error.code not in policy.on:
        return None
    delay = policy.delay(retries)
    if isinstance(error, ModelFailure):
        if error.permanent:
            return None
        delay = max(delay, min(error.retry_after or 0.0, LONGEST_DELAY))
    return Retry(
        number=retries + 1,
        at_most=policy.at_most,
        delay=round(delay * (1 + _JITTER * jitter()), 3),
    )


def used_up(retries: int) -> str:
    """What the error of a run adds that may not be retried once more."""
    times = "once" if retries == 1 else f"{retries} times"
    return f"The run was retried {times}, as often as its agent's policy allows."
