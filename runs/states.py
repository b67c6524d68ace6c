"""The life of a run as data. :mod:`runs.transitions` is the only writer of a status."""

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """Where a run is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.TIMED_OUT, Status.CANCELLED})

LIVE = frozenset(Status) - TERMINAL

TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELLED, Status.TIMED_OUT}),
    Status.RUNNING: TERMINAL | {Status.QUEUED, Status.WAITING},
    Status.WAITING: frozenset({Status.QUEUED, Status.CANCELLED, Status.FAILED, Status.TIMED_OUT}),
    **{terminal: frozenset() for terminal in sorted(TERMINAL)},
}


def allowed(source: Status, target: Status) -> bool:
    """Whether a run may go from ``source`` to ``target``."""
    return target in TRANSITIONS[source]
