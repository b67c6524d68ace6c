"""Celery's side of runs: the bell, and the life of the worker process."""

from typing import Any

from celery import Task, shared_task, signals
from celery.worker import state
from kombu.asynchronous import Hub, get_event_loop
from kombu.exceptions import OperationalError

from runs import bus, slots
from station.core.stopping import LATEST_EXIT, exit_at_the_latest

_LET_GO_WITHIN = 0.002


@shared_task(name="runs.serve", bind=True, ignore_result=True)
def serve(self: Task) -> None:
    """A bell rang: carry runs until none is eligible."""
    if carrier := slots.carrier():
        carrier.serve()
    hub = get_event_loop()
    if hub is not None and len(state.reserved_requests) >= self.app.conf.worker_concurrency:
        hub.call_soon(_listen_again, hub, self.request.id)  # type: ignore[no-untyped-call]


def _listen_again(hub: Hub, task_id: str) -> None:
    """Turn Celery's loop until a full worker has let go of the task, and hears bells again.

    The loop looks whether it may take a message only when it turns, and a full worker's loop,
    which listens for nothing, sleeps for up to a second.
    """
    if task_id in state.requests:
        hub.call_later(  # type: ignore[no-untyped-call]
            _LET_GO_WITHIN, _listen_again, hub, task_id
        )


def send_ring() -> str | None:
    """Put one bell into the broker; the problem, if it did not take it."""
    try:
        serve.apply_async(retry=False)
    except (OperationalError, OSError) as error:
        return str(error) or type(error).__name__
    return None


def waiting() -> int:
    """Bells in the broker that no worker has heard yet."""
    return bus.length(serve.app.conf.task_default_queue)


@signals.celeryd_init.connect
def start(**_: Any) -> None:
    """Be ready to carry before the first bell is heard."""
    if carrier := slots.carrier():
        carrier.start()


@signals.worker_ready.connect
def look_for_work(**_: Any) -> None:
    """A fresh worker does not wait for the keeper to hear of runs that are there already."""
    if carrier := slots.carrier():
        carrier.prime_metrics()
    send_ring()


@signals.worker_shutting_down.connect
def drain(**_: Any) -> None:
    """SIGTERM: hand everything back and be gone before anybody loses patience."""
    if carrier := slots.carrier():
        carrier.drain()
    exit_at_the_latest()


@signals.worker_shutdown.connect
def wait_until_drained(**_: Any) -> None:
    """Celery's own threads have ended; let the carrier close what it holds."""
    if carrier := slots.carrier():
        carrier.wait_drained(LATEST_EXIT)
