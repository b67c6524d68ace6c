"""The worker process: one event loop on a thread of its own carries all of its runs.

Celery's threads only wait: each calls :meth:`Host.serve`, which keeps claiming runs until nothing
is eligible. So Celery's concurrency is the number of slots, a full worker leaves bells for others,
and five hundred waiting runs cost five hundred coroutines.
"""

import asyncio
import contextlib
import ctypes
import gc
import os
import platform
import random
import secrets
import threading
import time

import structlog
from django.db import connection

from runs import metrics, queue
from runs.assignment import Assignment, Taking
from runs.bell import Ringer
from runs.bus import CancelListener, Publisher
from runs.catalog import Catalog
from runs.circuits import Circuits
from runs.database import Units
from runs.execution import Execution, Stop
from runs.leases import Leases, WorkerReport
from runs.llm.client import LiteLlmClient
from runs.llm.library import load
from runs.queue import Contended
from station.accounts.models import Environment
from station.config import Config
from station.core.watchdog import keep_watch
from station.observe.metrics import ERRORS
from toolservers.definition import ToolSessions
from toolservers.logs import StderrLog
from toolservers.pool import SessionPool

_log = structlog.get_logger(__name__)
_CONTENDED = (0.002, 0.01)
"""Seconds to wait, at least and at most, before a claim that another one disturbed is repeated."""
_M_MMAP_THRESHOLD = -3
_LARGE_BLOCK = 1024 * 1024
_AFTER_CANCEL = 6.0
_TO_CLOSE = 4.0


def _get_ready() -> None:
    """Load what asking models takes, and have no garbage collection look at it ever again.

    It is half a million objects for good: a full collection that walks them stops every run of the
    process for a quarter of a second.
    """
    load()
    gc.collect()
    gc.freeze()
    _give_memory_back()


def _give_memory_back() -> None:
    """Have the C library return large blocks to the system when they are freed.

    By itself it gets used to the largest block it has seen freed, keeps everything up to that size,
    and so keeps a hundred MiB and more after a few answers that were too large.
    """
    with contextlib.suppress(OSError, AttributeError):  # glibc's alone
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


class Host:
    """Carries up to ``execution_queue.workers`` runs at once until it is drained."""

    units: Units
    leases: Leases
    publisher: Publisher
    sessions: ToolSessions
    catalog: Catalog
    model: LiteLlmClient

    def __init__(self, config: Config) -> None:
        self._config = config
        self.name = f"{platform.node()}:{os.getpid()}:{secrets.token_hex(3)}"
        self._slots = config.execution_queue.workers
        self._running: dict[int, Execution] = {}
        self._recent: dict[int, None] = {}
        """The environments claimed from, the one least recently claimed from first."""
        self._serving = 0
        self._draining = False
        self._drained = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="runs", daemon=True)

    # --- from other threads -----------------------------------------------------------------

    def start(self) -> None:
        """Start the loop, the heartbeat and the listener; runs are claimed when bells ring.

        It takes seconds of CPU. The worker reports itself, and hears bells, only when it is over:
        no run waits for a worker that cannot carry it yet.
        """
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(timeout=30)
        _get_ready()
        self._watch = asyncio.run_coroutine_threadsafe(keep_watch(), self._loop)
        self.leases.start()
        _log.info("worker_started", worker=self.name, slots=self._slots)

    def serve(self) -> None:
        """Claim and carry runs until none is eligible; blocks. One call occupies one slot."""
        if not self._draining:
            asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result()

    def drain(self) -> None:
        """Take no more runs, let steps finish for the grace period, hand the rest back.

        Returns at once; :meth:`wait_drained` tells when it is done.
        """
        if not self._draining:
            self._draining = True
            asyncio.run_coroutine_threadsafe(self._drain(), self._loop)

    def wait_drained(self, timeout: float) -> bool:
        """Whether every run was let go of within ``timeout`` seconds."""
        return self._drained.wait(timeout)

    def prime_metrics(self) -> None:
        """Have the counters of every environment start at 0."""
        names = list(Environment.objects.values_list("name", flat=True))
        connection.close()
        metrics.prime(names, self._config.ai.model or "")

    # --- on the loop ------------------------------------------------------------------------

    async def _open(self) -> None:
        config = self._config
        queue_settings, mcp, ai = config.execution_queue, config.mcp, config.ai
        self.units = Units(threads=max(2, min(8, config.database.max_connections - 2)))
        self.publisher = Publisher()
        self._ringer = Ringer(at_most=self._slots)
        self._stderr = StderrLog(config.redis.url.get_secret_value())
        self.sessions = SessionPool(
            size=mcp.connection_pool_size,
            max_retries=mcp.max_retries,
            output_limit=mcp.output_limit,
            passed_environment=mcp.stdio_environment,
            allowed_commands=mcp.stdio_commands,
            on_stderr=self._stderr.write,
        )
        self.catalog = Catalog(self.sessions, self.units)
        self.model = LiteLlmClient(
            provider=ai.provider,
            api_key=ai.api_key.get_secret_value() if ai.api_key else "",
            base_url=ai.base_url or "",
            request_timeout=ai.request_timeout,
            max_retries=ai.max_retries,
            circuits=Circuits(
                self.units,
                failures=ai.circuit_failures,
                provider=ai.provider,
                model=ai.model or "",
                request_timeout=ai.request_timeout,
            ),
        )
        self._cancellations = CancelListener(self._look_for_cancellation)
        self.leases = Leases(
            url=config.database.url.get_secret_value(),
            lease=queue_settings.lease,
            heartbeat=queue_settings.heartbeat,
            report=self._report,
            on_lost=lambda run_id, fence: self._stop_soon(run_id, fence, "lost"),
            on_cancel=lambda run_id, fence: self._stop_soon(run_id, fence, "cancelled"),
        )

    async def _serve(self) -> None:
        self._serving += 1
        try:
            await self._claim_and_carry()
        finally:
            self._serving -= 1

    async def _claim_and_carry(self) -> None:
        while not self._draining:
            claimed = time.monotonic()
            try:
                assignment = await self.units.run(Taking(self.name, tuple(self._recent)))
            except Contended:
                await asyncio.sleep(random.uniform(*_CONTENDED))  # noqa: S311 - jitter
                continue
            except Exception:  # noqa: BLE001 - a slot must survive whatever a claim meets
                ERRORS.labels("worker").inc()
                _log.exception("claim_failed")
                return
            if assignment is None:
                return
            self._recent.pop(assignment.environment_id, None)
            self._recent[assignment.environment_id] = None
            await self._carry(assignment, claimed)

    async def _carry(self, assignment: Assignment, claimed: float) -> None:
        execution = Execution(assignment, self)
        self._running[assignment.run_id] = execution
        self.leases.add(assignment.run_id, assignment.fence, claimed)
        try:
            if self._draining:
                execution.stop("drained")
            await execution.run()
            if execution.claimable_in is not None:
                self._ringer.ring_in(execution.claimable_in)
        except Exception:  # noqa: BLE001 - one run must not take the slot with it
            # The lease runs out by itself and the keeper gives the run to another worker.
            ERRORS.labels("worker").inc()
            _log.exception("run_abandoned", run_id=assignment.run_id)
        finally:
            self.leases.drop(assignment.run_id, assignment.fence)
            if self._running.get(assignment.run_id) is execution:
                del self._running[assignment.run_id]

    def _look_for_cancellation(self, run_id: int) -> None:
        """Valkey's word alone ends no run: the row says whether it was cancelled."""
        if run_id in self._running:
            self.leases.nudge()

    def _stop(self, run_id: int, fence: int, reason: Stop) -> None:
        execution = self._running.get(run_id)
        if execution is not None and execution.fence == fence:
            execution.stop(reason)

    def _stop_soon(self, run_id: int, fence: int, reason: Stop) -> None:
        self._loop.call_soon_threadsafe(self._stop, run_id, fence, reason)

    def _report(self) -> WorkerReport:
        return WorkerReport(
            name=self.name,
            host=platform.node(),
            pid=os.getpid(),
            slots=self._slots,
            busy=len(self._running),
            draining=self._draining,
        )

    async def _drain(self) -> None:
        _log.info("worker_draining", worker=self.name, running=len(self._running))
        for execution in list(self._running.values()):
            execution.drain()
        await self._until_idle(self._config.execution_queue.shutdown_grace)
        for execution in list(self._running.values()):
            execution.stop("drained")
        await self._until_idle(_AFTER_CANCEL)
        try:
            async with asyncio.timeout(_TO_CLOSE):
                # The last heartbeat must be over: it would report the worker again.
                await asyncio.to_thread(self.leases.stop)
                await self.units.run(lambda: queue.forget_worker(self.name), patience=1)
                await self._cancellations.close()
                await self.sessions.close()
                await self.model.close()
                await self._stderr.close()
                await self.publisher.close()
                await self._ringer.close()
        except Exception:  # noqa: BLE001 - the process ends either way
            _log.exception("worker_closing_failed")
        self.units.close()
        self._watch.cancel()
        _log.info("worker_drained", worker=self.name, left_behind=len(self._running))
        self._drained.set()

    async def _until_idle(self, seconds: float) -> None:
        """Wait until no slot is busy, not even with a claim."""
        deadline = time.monotonic() + seconds
        while self._serving and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
