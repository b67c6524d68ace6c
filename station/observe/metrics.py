"""Metrics that belong to no app. The names are part of Station's interface.

Counters and histograms are objects of prometheus_client. What is counted in the database, like
the depth of the queue, is a *collector*: a function that apps register and that is called when
Prometheus asks (see :mod:`station.observe.exposition`).
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from django.db import connections
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric

Collector = Callable[[], Iterable[Metric]]

COMPONENTS = ("web", "worker", "keeper", "ssh", "mcp")

HTTP_REQUESTS = Counter(
    "station_http_requests_total", "HTTP requests answered.", ["method", "route", "code"]
)
HTTP_DURATION = Histogram(
    "station_http_request_duration_seconds",
    "Time from an HTTP request to its answer; event streams are not among them.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
ERRORS = Counter("station_errors_total", "Unexpected failures, by component.", ["component"])
SESSION_DURATION = Histogram(
    "station_user_session_duration_seconds",
    "Time from a person's log-in to their log-out.",
    buckets=(60, 300, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400),
)
DATABASE_CONNECTIONS = Gauge(
    "station_database_connections",
    "Connections of the processes' pools to PostgreSQL: in_use, idle, and the max they may open.",
    ["state"],
    multiprocess_mode="livesum",
)
DATABASE_FAILURES = Counter(
    "station_database_connections_failed_total",
    "Connections to PostgreSQL that could not be opened, or not be had from the pool in time.",
)

for _component in COMPONENTS:
    ERRORS.labels(_component)
for _state in ("in_use", "idle", "max"):
    DATABASE_CONNECTIONS.labels(_state)
for _code in ("200", "500"):
    HTTP_REQUESTS.labels("GET", "unmatched", _code)

_SAMPLED_EVERY = 5.0
_collectors: list[Collector] = []
_seen: dict[int, int] = {}
_sampling = threading.Lock()
_stopped = threading.Event()


def register_collector(collector: Collector) -> None:
    """Have ``collector()`` called at each scrape for metrics that are computed then.

    It runs in a thread, may use the ORM, and should take well under a second. When it fails or
    takes too long its metrics are missing from that scrape and ``station_errors_total`` rises.
    Registering the same function again changes nothing.
    """
    if collector not in _collectors:
        _collectors.append(collector)


def collectors() -> tuple[Collector, ...]:
    """All registered collectors."""
    return tuple(_collectors)


def sample() -> None:
    """Publish what this process's database pools say about themselves."""
    used = idle = most = 0
    with _sampling:
        for alias, pool in _pools().items():
            stats = pool.get_stats()
            idle += stats["pool_available"]
            used += stats["pool_size"] - stats["pool_available"]
            most += stats["pool_max"]
            failures = stats.get("connections_errors", 0) + stats.get("requests_errors", 0)
            # A pool may be closed and made anew, and then counts from zero.
            DATABASE_FAILURES.inc(max(0, failures - _seen.get(id(pool), 0)))
            _seen[id(pool)] = failures
            del alias
    DATABASE_CONNECTIONS.labels("in_use").set(used)
    DATABASE_CONNECTIONS.labels("idle").set(idle)
    DATABASE_CONNECTIONS.labels("max").set(most)


def start_sampling() -> None:
    """Publish now and every 5 s from a thread, for scrapes that another process answers.

    Call it in each long-running process, after any fork.
    """

    def keep_on() -> None:
        while not _stopped.wait(_SAMPLED_EVERY):
            sample()

    sample()
    threading.Thread(target=keep_on, name="station-metrics", daemon=True).start()


def _pools() -> dict[str, Any]:
    # Django's `connection.pool` would make the pool; the private dictionary only shows it.
    found: dict[str, Any] = {}
    for alias in connections:
        found |= getattr(connections[alias], "_connection_pools", {})
    return found
