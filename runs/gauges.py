"""What is counted in the database when Prometheus asks: the queue, and who could run."""

from collections.abc import Iterator

from django.db.models import Count
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from agents.models import Agent
from runs.models import Circuit, Run
from station.accounts.models import Environment


def collect() -> Iterator[Metric]:
    """``station_queue_depth`` by environment, ``station_active_agents`` and the open circuits."""
    depth = GaugeMetricFamily(
        "station_queue_depth", "Runs that are queued.", labels=["environment"]
    )
    queued = dict(
        Run.objects.filter(status="queued")
        .order_by()
        .values_list("environment_id")
        .annotate(n=Count("id"))
    )
    for key, name in Environment.objects.values_list("pk", "name"):
        depth.add_metric([name], queued.get(key, 0))
    yield depth
    active = Agent.objects.filter(enabled=True, paused=False).count()
    yield GaugeMetricFamily("station_active_agents", "Agents that can run.", value=active)
    circuits = GaugeMetricFamily(
        "station_model_circuit_open",
        "1 for each model provider that failed again and again and is not asked for a while.",
        labels=["provider"],
    )
    for provider in Circuit.objects.filter(retry_at__isnull=False).values_list("pk", flat=True):
        circuits.add_metric([provider], 1)
    yield circuits
