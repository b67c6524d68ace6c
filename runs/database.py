"""Where the event loop meets the ORM: one bounded pool of threads, one unit of work at a time.

A unit is one synchronous function that opens and closes its own transaction and leaves no
connection behind. No transaction spans an ``await``. When PostgreSQL goes away a unit is tried
again until its deadline: units are safe to repeat, because appends carry client-made ids and
transitions are compare-and-swap.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog
from django.db import InterfaceError, OperationalError, connection

T = TypeVar("T")
_log = structlog.get_logger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0


class Units:
    """Runs units of work for coroutines, at most ``threads`` at once."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="station-db")

    async def run(self, work: Callable[[], T], *, patience: float = 10.0) -> T:
        """The result of ``work()``, repeated for ``patience`` seconds while there is no database.

        Cancelling the caller does not undo a unit that has started; it is waited for, so that
        nothing runs behind the caller's back.
        """
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + patience
        pause = _FIRST_PAUSE
        while True:
            future = loop.run_in_executor(self._executor, _released, work)
            try:
                return await _to_the_end(future)
            except (OperationalError, InterfaceError) as error:
                if time.monotonic() + pause > deadline:
                    raise
                _log.warning("database_unavailable", problem=str(error).strip(), retry_in=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def close(self) -> None:
        """Let the threads end once they are idle."""
        self._executor.shutdown(wait=False, cancel_futures=True)


async def _to_the_end(future: asyncio.Future[T]) -> T:
    """Wait for ``future`` even while being cancelled; the cancellation is raised afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        future.exception()
        raise cancelled
    return future.result()


def _released(work: Callable[[], T]) -> T:
    try:
        return work()
    finally:
        connection.close()
