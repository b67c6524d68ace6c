"""The keeper: calls the jobs that apps registered, each at its own pace, until told to stop.

It holds nothing in memory that matters: any number of keepers may run, and one may die any time.
"""

import heapq
import threading
import time

import structlog
from django.db import connection

from station.core import jobs
from station.core.jobs import Job
from station.observe.metrics import ERRORS

_log = structlog.get_logger(__name__)


def run(stop: threading.Event) -> None:
    """Call jobs when they are due until ``stop`` is set; a failing job is logged and goes on."""
    start = time.monotonic()
    due = [(start, index, job) for index, job in enumerate(jobs.registered())]
    heapq.heapify(due)
    _log.info("keeper_started", jobs=[job.name for _, _, job in due])
    while not stop.is_set():
        when, index, job = due[0]
        if stop.wait(max(0.0, when - time.monotonic())):
            break
        _call(job)
        # A job that took longer than its pace is not called twice in a row to catch up.
        heapq.heapreplace(due, (max(when + job.every, time.monotonic()), index, job))
    _log.info("keeper_stopped")


def _call(job: Job) -> None:
    try:
        job.run()
    except Exception:  # noqa: BLE001 - one bad job must not stop the others
        ERRORS.labels("keeper").inc()
        _log.exception("job_failed", job=job.name)
    finally:
        connection.close()
