"""The keeper's jobs of runs: free what fell silent, ring for what nobody heard, expire, forget."""

from datetime import timedelta
from functools import partial

import structlog
from django.db import connection, transaction
from django.db.models.functions import Now

from runs import bus, circuits, lanes, queue, services, transitions
from runs.bell import ring, ring_again
from runs.models import Submission, Worker
from runs.moves import Moved
from station.config import current
from station.core import faults, jobs

_log = structlog.get_logger(__name__)
_UNHEARD_AFTER = 2.0
_LANES = 10.0
"""Seconds between two looks for lanes whose next run was left behind by mistake."""
_WORKER_GONE = timedelta(minutes=10)


def register() -> None:
    """Hand the jobs to the keeper."""
    tick = current().execution_queue.keeper_tick
    jobs.register("free expired leases", every=tick, run=free_expired_leases)
    jobs.register("ring for unheard runs", every=tick, run=ring_for_unheard)
    jobs.register("expire waiting runs", every=tick, run=expire_idle)
    jobs.register("advance lanes", every=_LANES, run=advance_lanes)
    jobs.register("forget past circuits", every=600, run=circuits.forget_past)
    jobs.register("forget old submissions", every=3600, run=forget_submissions)
    jobs.register("forget gone workers", every=300, run=forget_workers)


def free_expired_leases() -> None:
    """Give runs whose worker fell silent back to the queue, or end them."""
    most = current().execution_queue.max_attempts
    message = f"{most} workers in a row died while they carried this run, without finishing a step."
    released = transitions.release_expired(most)
    if released:
        faults.point("after-release")
    freed = [*released, *transitions.fail_expired(most, message), *transitions.cancel_expired()]
    for moved in freed:
        _log.warning("lease_expired", run_id=moved.run_id, fence=moved.fence)
    # Nobody waits for the others, or for a Valkey that does not answer.
    if released:
        ring(len(released))
    _announce(freed)


def ring_for_unheard() -> None:
    """Ring for runs nobody came for: at most once per free slot, by one keeper only."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext('station ring for unheard'))")
        if not cursor.fetchone()[0]:
            return
        late = queue.bells_wanted(older_than=_UNHEARD_AFTER)
        if late:
            _log.info("ringing_again", runs=late)
            transaction.on_commit(partial(ring_again, late))


def advance_lanes() -> None:
    """Call runs to the front that nobody called when the last one before them went."""
    if called := lanes.advance_all():
        _log.info("lanes_advanced", runs=called)


def expire_idle() -> None:
    """End queued and waiting runs whose time is over."""
    _announce(transitions.expire_idle())


def forget_submissions() -> None:
    """Drop Idempotency-Keys after 24 hours."""
    Submission.objects.filter(created_at__lt=Now() - services.KEYS_KEPT).delete()


def forget_workers() -> None:
    """Drop workers that have long been silent."""
    Worker.objects.filter(seen_at__lt=Now() - _WORKER_GONE).delete()


def _announce(moved: list[Moved]) -> None:
    if moved:
        bus.announce({each.run_id: each.event for each in moved})
