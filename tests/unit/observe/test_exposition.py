"""What /metrics says about collectors that fail."""

import threading
from collections.abc import Iterator

import pytest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from station.observe import exposition, metrics


@pytest.fixture(autouse=True)
def _own_collectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_collectors", [])
    monkeypatch.setattr(exposition, "PATIENCE", 0.2)


def _depth() -> Iterator[Metric]:
    depth = GaugeMetricFamily("station_queue_depth", "Queued runs.", labels=["environment"])
    depth.add_metric(["blue"], 3)
    yield depth


def _errors() -> float:
    text = exposition.exposition().decode()
    start = 'station_errors_total{component="web"} '
    return next(float(x[len(start) :]) for x in text.splitlines() if x.startswith(start))


def test_a_collector_is_called_at_each_scrape() -> None:
    metrics.register_collector(_depth)
    metrics.register_collector(_depth)
    text = exposition.exposition().decode()
    assert text.count('station_queue_depth{environment="blue"} 3.0') == 1


def test_a_collector_that_fails_or_hangs_costs_only_its_own_metrics() -> None:
    release = threading.Event()

    def broken() -> Iterator[Metric]:
        raise RuntimeError("no")

    def hangs() -> Iterator[Metric]:
        release.wait(30)
        yield from ()

    before = _errors()
    for collector in (broken, hangs, _depth):
        metrics.register_collector(collector)
    assert 'station_queue_depth{environment="blue"}' in exposition.exposition().decode()
    assert _errors() >= before + 2
    release.set()
