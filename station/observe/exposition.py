"""What /metrics says: this host's numbers, and what the registered collectors find."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late

import structlog
from django.db import connections
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from station.observe import multiprocess
from station.observe.metrics import ERRORS, Collector, collectors, sample

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
PATIENCE = 3.0
"""Longest wait for all collectors of a scrape together."""

_log = structlog.get_logger(__name__)
_running: dict[Collector, Future[list[Metric]]] = {}
_lock = threading.Lock()
_executor = ThreadPoolExecutor(2, thread_name_prefix="station-collect")


def exposition() -> bytes:
    """The metrics as Prometheus text. Blocks for at most about ``PATIENCE`` seconds."""
    sample()
    computed = list(_computed())
    place = multiprocess.folder()
    if place is None:
        return _text(REGISTRY) + _text(_Found(computed))
    multiprocess.bury(place)
    shared = CollectorRegistry()
    MultiProcessCollector(shared, path=str(place))  # type: ignore[no-untyped-call]
    with multiprocess.reading(place):
        return _text(shared) + _text(_Found(computed))


class _Found(CollectorRegistry):
    """A registry of metrics that were collected already."""

    def __init__(self, metrics: list[Metric]) -> None:
        super().__init__()
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def _text(registry: CollectorRegistry) -> bytes:
    return generate_latest(registry)


def _computed() -> Iterator[Metric]:
    """What collectors find by the deadline. One that still runs is not started again."""
    deadline = time.monotonic() + PATIENCE
    started = [(collector, _started(collector)) for collector in collectors()]
    for collector, future in started:
        name = getattr(collector, "__qualname__", repr(collector))
        try:
            yield from future.result(timeout=max(0.0, deadline - time.monotonic()))
        except Late:
            ERRORS.labels("web").inc()
            _log.warning("collector_late", collector=name, seconds=PATIENCE)
        except Exception:  # noqa: BLE001 - one collector must not break the others
            ERRORS.labels("web").inc()
            _log.exception("collector_failed", collector=name)


def _started(collector: Collector) -> Future[list[Metric]]:
    with _lock:
        future = _running.get(collector)
        if future is None or future.done():
            future = _running[collector] = _executor.submit(_collected, collector)
        return future


def _collected(collector: Collector) -> list[Metric]:
    try:
        return list(collector())
    finally:
        connections.close_all()
