"""What is counted in the database when Prometheus asks: which tool servers answered."""

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from toolservers.models import ToolServer


def collect() -> Iterator[Metric]:
    """``station_mcp_server_up``: 1 when the last look at an enabled server found its tools."""
    up = GaugeMetricFamily(
        "station_mcp_server_up",
        "1 when the tool server answered at the last look, 0 when it did not.",
        labels=["environment", "server"],
    )
    servers = ToolServer.objects.filter(enabled=True)
    for environment, name, found, error in servers.values_list(
        "environment__name", "name", "discovered_at", "last_error"
    ):
        up.add_metric([environment, name], float(found is not None and not error))
    yield up
