"""Metrics that belong to no app. The names are part of Station's interface."""

from prometheus_client import Counter, Gauge, Histogram

COMPONENTS = ("web", "worker", "keeper", "ssh", "mcp")

HTTP_REQUESTS = Counter(
    "station_http_requests_total", "HTTP requests answered.", ["method", "route", "code"]
)
HTTP_DURATION = Histogram(
    "station_http_request_duration_seconds",
    "Time from an HTTP request to the end of its answer.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
ERRORS = Counter("station_errors_total", "Unexpected failures, by component.", ["component"])
SESSION_DURATION = Histogram(
    "station_user_session_duration_seconds",
    "Time from a person's log-in to the end of the session.",
    buckets=(60, 300, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400),
)
DATABASE_CONNECTIONS = Gauge(
    "station_database_connections",
    "Connections of the pools to PostgreSQL.",
    ["state"],
    multiprocess_mode="livesum",
)
DATABASE_FAILURES = Counter(
    "station_database_connections_failed_total", "Connections to PostgreSQL that were not had."
)

for _component in COMPONENTS:
    ERRORS.labels(_component)
HTTP_REQUESTS.labels("GET", "/health", "200")
