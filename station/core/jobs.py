"""Recurring work that apps hand to the keeper. Apps register in ``AppConfig.ready()``."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Job:
    """A function the keeper calls every ``every`` seconds.

    Any number of keepers may run: ``run`` must be safe beside itself.
    """

    name: str
    every: float
    run: Callable[[], object]


_jobs: dict[str, Job] = {}


def register(name: str, *, every: float, run: Callable[[], object]) -> None:
    """Add a job, or replace the one of that name."""
    _jobs[name] = Job(name=name, every=every, run=run)


def registered() -> tuple[Job, ...]:
    """All jobs, in the order of registration."""
    return tuple(_jobs.values())
