"""The heartbeat: one thread with a connection of its own keeps a process's leases alive.

It is not behind the ORM's pool and not on the event loop, so neither a full pool nor a busy loop
makes a healthy worker look dead. The reverse matters as much: a process that cannot renew learns
it from its own monotonic clock, before the database would let somebody else take the run. A second
thread watches that clock, because a heartbeat may hang in the database for any length of time.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import structlog

from runs.errors import LeaseLost

_log = structlog.get_logger(__name__)
# A row that somebody has locked is left for the next time: waiting for it would let the leases of
# all the others run out.
_RENEW = """
WITH mine AS (
  SELECT r.id, r.fence, r.cancel_requested_at IS NOT NULL AS cancelled
    FROM unnest(%(ids)s::bigint[], %(fences)s::bigint[]) AS held(id, fence)
    JOIN agent_runs r ON r.id = held.id AND r.fence = held.fence
   WHERE r.status = 'running' AND r.lease_expires_at > clock_timestamp()
), free AS (
  SELECT r.id FROM agent_runs r JOIN mine ON r.id = mine.id AND r.fence = mine.fence
   WHERE r.status = 'running' AND r.lease_expires_at > clock_timestamp()
     FOR NO KEY UPDATE OF r SKIP LOCKED
), renewed AS (
  UPDATE agent_runs r
     SET lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s)
    FROM free WHERE r.id = free.id
  RETURNING r.id
)
SELECT mine.id, mine.cancelled, renewed.id IS NOT NULL
  FROM mine LEFT JOIN renewed ON renewed.id = mine.id
"""
_REPORT = """
INSERT INTO run_workers (name, host, pid, slots, busy, draining)
VALUES (%(name)s, %(host)s, %(pid)s, %(slots)s, %(busy)s, %(draining)s)
ON CONFLICT (name) DO UPDATE
   SET slots = excluded.slots, busy = excluded.busy, draining = excluded.draining,
       seen_at = clock_timestamp()
"""
_RETRY = 0.5


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """What a worker says of itself with every heartbeat."""

    name: str
    host: str
    pid: int
    slots: int
    busy: int
    draining: bool


@dataclass(kw_only=True)
class _Held:
    fence: int
    until: float


class Leases:
    """The leases of one worker process. Thread-safe."""

    def __init__(
        self,
        *,
        url: str,
        lease: float,
        heartbeat: float,
        report: Callable[[], WorkerReport],
        on_lost: Callable[[int, int], None],
        on_cancel: Callable[[int, int], None],
    ) -> None:
        """``on_lost`` and ``on_cancel`` get a run's id and fence, on a thread of this object."""
        self._url, self._lease, self._heartbeat = url, lease, heartbeat
        self._margin = min(5.0, lease / 4)
        self._retry = min(_RETRY, heartbeat, self._margin / 2)
        self._report, self._on_lost, self._on_cancel = report, on_lost, on_cancel
        self._held: dict[int, _Held] = {}
        self._lock = threading.Lock()
        self._stop, self._wake = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in ((self._beat, "heartbeat"), (self._watch, "lease watch"))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the heartbeat; leases that are still held run out by themselves."""
        self._stop.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(timeout=5)

    def nudge(self) -> None:
        """Have the heartbeat look now: a run that is held may have been cancelled."""
        self._wake.set()

    def add(self, run_id: int, fence: int, claimed: float) -> None:
        """Hold a lease from ``claimed``, the monotonic time *before* the claim was sent."""
        with self._lock:
            self._held[run_id] = _Held(fence=fence, until=claimed + self._lease)

    def drop(self, run_id: int, fence: int) -> None:
        """Forget a lease."""
        with self._lock:
            if (held := self._held.get(run_id)) is not None and held.fence == fence:
                del self._held[run_id]

    def check(self, run_id: int, fence: int) -> None:
        """Raise :class:`LeaseLost` unless this process may still act for the run.

        It may until ``margin`` seconds before the lease, counted from the last renewal that the
        database confirmed, runs out. What is sent right after this check may still arrive after
        the lease has ended if the process is stopped in between: see docs/guarantees.md.
        """
        with self._lock:
            held = self._held.get(run_id)
        if held is None or held.fence != fence or time.monotonic() > held.until - self._margin:
            raise LeaseLost

    def _beat(self) -> None:
        connection: psycopg.Connection[tuple[int, bool, bool]] | None = None
        pause = 0.0
        while not self._stop.is_set():
            try:
                if connection is None:
                    connection = self._connect()
                pause = self._heartbeat if self._renew(connection) else self._retry
            except psycopg.Error as error:
                _log.warning("heartbeat_failed", problem=str(error).strip())
                if connection is not None:
                    with contextlib.suppress(psycopg.Error):
                        connection.close()
                connection, pause = None, self._retry
            self._wake.wait(pause)
            self._wake.clear()
        if connection is not None:
            connection.close()

    def _watch(self) -> None:
        """Give up, in time, what the heartbeat does not renew, whatever keeps it from doing so."""
        while not self._stop.wait(self._retry):
            now = time.monotonic()
            with self._lock:
                overdue = [
                    (run_id, held.fence)
                    for run_id, held in self._held.items()
                    if now > held.until - self._margin
                ]
            for run_id, fence in overdue:
                self._on_lost(run_id, fence)

    def _connect(self) -> psycopg.Connection[tuple[int, bool, bool]]:
        return psycopg.connect(
            self._url,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=2,
            tcp_user_timeout=3000,
            keepalives_idle=3,
            keepalives_interval=2,
            keepalives_count=2,
            application_name="station heartbeat",
        )

    def _renew(self, connection: psycopg.Connection[tuple[int, bool, bool]]) -> bool:
        """Renew what can be renewed; whether that was everything that is still ours."""
        with self._lock:
            sent = {run_id: held.fence for run_id, held in self._held.items()}
        begun = time.monotonic()
        connection.execute(_REPORT, vars(self._report()))
        if not sent:
            return True
        rows = connection.execute(
            _RENEW, {"lease": self._lease, "ids": list(sent), "fences": list(sent.values())}
        ).fetchall()
        ours = {run_id for run_id, _, _ in rows}
        with self._lock:
            for run_id, _, renewed in rows:
                held = self._held.get(run_id)
                if renewed and held is not None and held.fence == sent[run_id]:
                    held.until = begun + self._lease
        for run_id in sent.keys() - ours:
            self._on_lost(run_id, sent[run_id])
        for run_id, cancelled, _ in rows:
            if cancelled:
                self._on_cancel(run_id, sent[run_id])
        return all(renewed for _, _, renewed in rows)
