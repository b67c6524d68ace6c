"""Ringing the doorbell. A bell that is lost costs a little time, never a run."""

from typing import Any

import structlog
from django.db import transaction

from runs import queue
from runs.metrics import BELLS_LOST

_log = structlog.get_logger(__name__)


def ring_after_commit() -> None:
    """Ring once when the present transaction commits (now, if there is none)."""
    transaction.on_commit(ring, robust=True)


def ring_for_freed(*, created: bool, **_: Any) -> None:
    """An agent or an environment has changed: what it kept from starting may start now.

    A receiver of ``post_save``.
    """

    def ring_for_all() -> None:
        if wanted := queue.bells_wanted(older_than=0.0):
            ring(wanted)

    if not created:
        transaction.on_commit(ring_for_all, robust=True)


def ring(times: int = 1) -> None:
    """Tell the workers that there is work; a broker that is away is the keeper's business."""
    from runs import tasks  # noqa: PLC0415 - Celery takes its time to import, and not all ring

    for _ in range(times):
        if problem := tasks.send_ring():
            BELLS_LOST.inc()
            _log.warning("bell_lost", problem=problem)
            return
