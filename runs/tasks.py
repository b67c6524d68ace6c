"""Celery's side of runs: the bell, and the life of the worker process."""

import os
import threading
from typing import TYPE_CHECKING, Any

from celery import shared_task, signals
from kombu.exceptions import OperationalError

from station.config import current

if TYPE_CHECKING:
    from runs.host import Host

_LATEST_EXIT = 24.0
_host: "Host | None" = None


@shared_task(name="runs.serve", ignore_result=True)
def serve() -> None:
    """A bell rang: carry runs until none is eligible."""
    if _host is not None:
        _host.serve()


def send_ring() -> str | None:
    """Put one bell into the broker; the problem, if it did not take it."""
    try:
        serve.apply_async(retry=False)
    except (OperationalError, OSError) as error:
        return str(error) or type(error).__name__
    return None


@signals.celeryd_init.connect
def start_host(**_: Any) -> None:
    """Bring up the loop that carries the runs before the first bell is heard."""
    global _host  # noqa: PLW0603 - one host a process
    from runs.host import Host  # noqa: PLC0415 - it loads litellm and MCP, for workers only

    _host = Host(current())
    _host.start()


@signals.worker_ready.connect
def look_for_work(**_: Any) -> None:
    """A fresh worker does not wait for the keeper to hear of runs that are there already."""
    if _host is not None:
        _host.prime_metrics()
    send_ring()


@signals.worker_shutting_down.connect
def drain(**_: Any) -> None:
    """SIGTERM: hand everything back and be gone before anybody loses patience."""
    if _host is not None:
        _host.drain()
    guard = threading.Timer(_LATEST_EXIT, os._exit, args=[1])
    guard.daemon = True
    guard.start()


@signals.worker_shutdown.connect
def wait_for_the_host(**_: Any) -> None:
    """Celery's own threads have ended; let the host close what it holds."""
    if _host is not None:
        _host.wait_drained(_LATEST_EXIT)
