"""Ringing the doorbell. A bell that is lost costs a little time, never a run."""

import asyncio
from typing import Any

import structlog
from django.db import transaction

from runs import lanes, queue
from runs.metrics import BELLS_LOST

_log = structlog.get_logger(__name__)


def ring_after_commit() -> None:
    """Ring once when the present transaction commits (now, if there is none)."""
    transaction.on_commit(ring, robust=True)


def ring_for_freed(*, created: bool, **_: Any) -> None:
    """An agent, an environment or the queue's switch has changed: what it held up may start.

    A receiver of ``post_save``.
    """

    def ring_for_all() -> None:
        lanes.advance_all()  # the cap of each key may have changed
        if wanted := queue.bells_wanted(older_than=0.0):
            ring_again(wanted)

    if not created:
        transaction.on_commit(ring_for_all, robust=True)


def ring_again(wanted: int) -> None:
    """Ring until as many bells as ``wanted`` are in the broker.

    Where workers are cut off from it, no more of them pile up than there are slots to hear them.
    """
    from runs import tasks  # noqa: PLC0415

    ring(wanted - tasks.waiting())


def ring(times: int = 1) -> None:
    """Tell the workers that there is work; a broker that is away is the keeper's business."""
    from runs import tasks  # noqa: PLC0415 - Celery takes its time to import, and not all ring

    for _ in range(times):
        if problem := tasks.send_ring():
            BELLS_LOST.inc()
            _log.warning("bell_lost", problem=problem)
            return


class Ringer:
    """Rings from a worker's event loop without holding it up."""

    def __init__(self, at_most: int) -> None:
        """``at_most`` bells wait for their time; for further runs the keeper rings."""
        self._at_most = at_most
        self._waiting = self._due = 0
        self._task: asyncio.Task[None] | None = None

    def ring_in(self, seconds: float) -> None:
        """Ring for a run that may be claimed in so many seconds."""
        if seconds <= 0:
            self._ring()
        elif self._waiting < self._at_most:
            self._waiting += 1
            asyncio.get_running_loop().call_later(seconds, self._in_time)

    async def close(self) -> None:
        """Wait for the bells that are being rung; those whose time has not come are forgotten."""
        if self._task is not None:
            await self._task

    def _in_time(self) -> None:
        self._waiting -= 1
        self._ring()

    def _ring(self) -> None:
        self._due += 1
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._ring_all(), name="ringer")

    async def _ring_all(self) -> None:
        while self._due:
            times, self._due = self._due, 0
            await asyncio.to_thread(ring, times)
