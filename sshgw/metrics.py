"""The gateway's metric. Its name is part of Station's interface."""

from prometheus_client import Gauge

CONNECTIONS = Gauge(
    "station_ssh_connections",
    "Open SSH connections, those still logging in included.",
    multiprocess_mode="livesum",
)
