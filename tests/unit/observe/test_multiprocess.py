"""Numbers of processes that ended."""

import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from station.observe.multiprocess import VARIABLE, bury

_COUNTS = """
from prometheus_client import Counter, Gauge, Histogram
Counter("work", "Work.", ["kind"]).labels("a").inc(2)
Histogram("took", "Took.", buckets=(1, 2)).observe(1.5)
Gauge("open", "Open.", multiprocess_mode="livesum").set(5)
"""


def _process_ends(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", _COUNTS], env={VARIABLE: str(folder)}, check=True)


def _text(folder: Path) -> str:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
    return generate_latest(registry).decode()


def test_counters_and_histograms_of_ended_processes_are_kept_in_one_file(tmp_path: Path) -> None:
    for times in range(1, 4):
        _process_ends(tmp_path)
        bury(tmp_path)
        text = _text(tmp_path)
        assert f'work_total{{kind="a"}} {2.0 * times}' in text
        assert f'took_bucket{{le="2.0"}} {1.0 * times}' in text
        assert f"took_sum {1.5 * times}" in text
    assert sorted(path.name for path in tmp_path.glob("*.db")) == [
        "counter_0.db",
        "histogram_0.db",
    ]


def test_gauges_of_ended_processes_are_dropped(tmp_path: Path) -> None:
    _process_ends(tmp_path)
    assert "open 5.0" in _text(tmp_path)
    bury(tmp_path)
    assert "open" not in _text(tmp_path)
