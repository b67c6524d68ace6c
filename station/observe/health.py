"""Readiness: the checks that /ready makes, and how their answers become one.

Apps register checks in ``AppConfig.ready()``. A required check that fails makes the process not
ready (503); another one makes it degraded (200, with the reason). However slow a check is, the
report comes within ``PATIENCE``; a check that still runs is never started a second time.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from station.observe.drain import draining

PATIENCE = 1.8
_FRESH = 1.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Check:
    """``run()`` returns what is wrong, in words fit for anyone to read, or ""."""

    name: str
    run: Callable[[], str]
    required: bool


@dataclass(frozen=True, kw_only=True)
class Report:
    """The answers of all checks: what is wrong by the check's name."""

    failed: dict[str, str]
    degraded: dict[str, str]
    checked: tuple[str, ...]

    @property
    def ready(self) -> bool:
        return not self.failed

    def public(self) -> dict[str, object]:
        """The JSON that /ready answers with."""
        status = "not ready" if self.failed else "degraded" if self.degraded else "ready"
        wrong = {**self.degraded, **self.failed}
        return {
            "status": status,
            "checks": {name: wrong.get(name) or "ok" for name in self.checked},
            "reasons": [f"{name}: {problem}" for name, problem in self.failed.items()],
        }


_checks: dict[str, Check] = {}
_lock = threading.Lock()
_running: dict[str, tuple[float, Future[str]]] = {}
_executor = ThreadPoolExecutor(8, thread_name_prefix="station-health")


def register(name: str, run: Callable[[], str], *, required: bool) -> None:
    """Add a check, or replace the one of that name.

    ``run`` is called in a thread and may block; what it raises is logged, and reported only as
    "does not work", because messages of exceptions may hold addresses and names.
    """
    _checks[name] = Check(name=name, run=run, required=required)


async def report() -> Report:
    """Ask every check, within ``PATIENCE`` seconds; answers of the last second are used again."""
    checks = tuple(_checks.values())
    asked = {check.name: asyncio.wrap_future(_asked(check)) for check in checks}
    if asked:
        await asyncio.wait(asked.values(), timeout=PATIENCE)
    failed: dict[str, str] = {}
    degraded: dict[str, str] = {}
    for check in checks:
        future = asked[check.name]
        problem = future.result() if future.done() else f"no answer within {PATIENCE} s"
        if problem:
            (failed if check.required else degraded)[check.name] = problem
    if draining.is_set():
        failed["draining"] = "this process is shutting down"
    names = (*(check.name for check in checks), "draining")
    return Report(failed=failed, degraded=degraded, checked=names)


def _asked(check: Check) -> Future[str]:
    with _lock:
        since, future = _running.get(check.name, (0.0, None))
        if future is None or (future.done() and time.monotonic() - since > _FRESH):
            future = _executor.submit(_answer, check)
            _running[check.name] = (time.monotonic(), future)
        # A child, because cancelling what wraps a future cancels it, and others wait for it too.
        child: Future[str] = Future()
        child.set_running_or_notify_cancel()
        future.add_done_callback(lambda done: child.set_result(done.result()))
        return child


def _answer(check: Check) -> str:
    try:
        return check.run()
    except Exception as error:  # noqa: BLE001 - any failure is the answer
        _log.warning("check_failed", check=check.name, problem=str(error).strip())
        return "does not work"
