"""The heartbeat: one thread with a connection of its own keeps a process's leases alive.

It is not behind the ORM's pool and not on the event loop, so neither a full pool nor a busy loop
makes a healthy worker look dead. The reverse matters as much: a process that cannot renew learns
it from its own monotonic clock, before the database would let somebody else take the run.
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
_RENEW = """
UPDATE agent_runs r
   SET lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s)
  FROM unnest(%(ids)s::bigint[], %(fences)s::bigint[]) AS held(id, fence)
 WHERE r.id = held.id AND r.fence = held.fence AND r.status = 'running'
   AND r.lease_expires_at > clock_timestamp()
RETURNING r.id, r.cancel_requested_at IS NOT NULL
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
        on_lost: Callable[[int], None],
        on_cancel: Callable[[int], None],
    ) -> None:
        """``on_lost`` and ``on_cancel`` get run ids, on the heartbeat's thread."""
        self._url, self._lease, self._heartbeat = url, lease, heartbeat
        self._margin = min(5.0, lease / 4)
        self._report, self._on_lost, self._on_cancel = report, on_lost, on_cancel
        self._held: dict[int, _Held] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the heartbeat; leases that are still held run out by themselves."""
        self._stop.set()
        self._thread.join(timeout=5)

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
        connection: psycopg.Connection[tuple[int, bool]] | None = None
        pause = 0.0
        while not self._stop.wait(pause):
            try:
                if connection is None:
                    connection = self._connect()
                self._renew(connection)
                pause = self._heartbeat
            except psycopg.Error as error:
                _log.warning("heartbeat_failed", problem=str(error).strip())
                if connection is not None:
                    with contextlib.suppress(psycopg.Error):
                        connection.close()
                connection, pause = None, min(_RETRY, self._heartbeat)
            self._stop_overdue()
        if connection is not None:
            connection.close()

    def _connect(self) -> psycopg.Connection[tuple[int, bool]]:
        return psycopg.connect(
            self._url,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=2,
            tcp_user_timeout=3000,
            application_name="station heartbeat",
        )

    def _renew(self, connection: psycopg.Connection[tuple[int, bool]]) -> None:
        with self._lock:
            sent = {run_id: held.fence for run_id, held in self._held.items()}
        begun = time.monotonic()
        connection.execute(_REPORT, vars(self._report()))
        if not sent:
            return
        rows = connection.execute(
            _RENEW, {"lease": self._lease, "ids": list(sent), "fences": list(sent.values())}
        ).fetchall()
        renewed = dict(rows)
        with self._lock:
            for run_id in renewed:
                held = self._held.get(run_id)
                if held is not None and held.fence == sent[run_id]:
                    held.until = begun + self._lease
            gone = [
                run_id
                for run_id, fence in sent.items()
                if run_id not in renewed
                and run_id in self._held
                and self._held[run_id].fence == fence
            ]
        for run_id in gone:
            self._on_lost(run_id)
        for run_id, cancelled in renewed.items():
            if cancelled:
                self._on_cancel(run_id)

    def _stop_overdue(self) -> None:
        now = time.monotonic()
        with self._lock:
            overdue = [id_ for id_, h in self._held.items() if now > h.until - self._margin]
        for run_id in overdue:
            self._on_lost(run_id)
