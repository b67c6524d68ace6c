"""A claim, and how long it takes."""

import time
from collections.abc import Callable
from typing import TypeVar

from runs import queue
from runs.moves import Moved

T = TypeVar("T")


def claimed() -> Moved:
    """The next run. Nobody else claims here, so there always has to be one."""
    moved = queue.claim("bench", 600.0)
    assert moved is not None, "nothing was claimed"
    return moved


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """The milliseconds that ``work`` takes, and its result."""
    begun = time.perf_counter()
    done = work()
    return (time.perf_counter() - begun) * 1000, done
