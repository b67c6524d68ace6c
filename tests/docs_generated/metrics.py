"""docs/metrics.md, from the metrics that the source declares."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.docs_generated.text import PACKAGES, ROOT, page, table

_FACTORIES = {
    "Counter": "counter",
    "Gauge": "gauge",
    "Histogram": "histogram",
    "CounterMetricFamily": "counter",
    "GaugeMetricFamily": "gauge",
    "HistogramMetricFamily": "histogram",
}
LABELS: Mapping[str, str] = {
    "code": "the HTTP status",
    "component": "`web`, `worker`, `keeper`, `ssh` or `mcp`",
    "environment": "the environment's name",
    "kind": "`input` or `output`",
    "method": "the HTTP method, `OTHER` for unusual ones",
    "model": "the model that answered, with its provider: `openai/gpt-4`",
    "provider": "the model provider's name",
    "route": "the template of the path (`unmatched` where there is none), never the path itself",
    "server": "the tool server's name",
    "state": "`in_use`, `idle` or `max`",
    "status": "the terminal status: `succeeded`, `failed`, `timed_out` or `cancelled`",
}
_METRICS_INTRODUCTION = """\
# Metrics

`GET /metrics` of the web process answers in Prometheus' text format. It needs no login and names no
secret; let only your Prometheus reach it.

One scrape covers the host: the processes of one `data_dir` write their numbers into files below
`metrics/` in it, and the web process adds them up. Counters of processes that ended stay in the
sums. On Kubernetes every pod has a folder of its own, so the web's `/metrics` covers the web pod
alone.

What is counted in the database is computed at each scrape, within 3 seconds. A part that fails or
is late is missing from that scrape, and `station_errors_total{component="web"}` rises.

A histogram has the usual three: `…_bucket`, `…_sum` and `…_count`. A combination of labels that was
never counted may be absent.
"""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric as the code declares it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


def metrics() -> list[Metric]:
    """Every metric that is declared in the source, by name."""
    found = {metric.name: metric for path in _sources() for metric in _declared(path)}
    return [found[name] for name in sorted(found)]


def _sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def _declared(path: Path) -> Iterator[Metric]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or len(node.args) < 2:
            continue
        kind = _FACTORIES.get(getattr(node.func, "id", getattr(node.func, "attr", "")))
        name, about = (getattr(argument, "value", None) for argument in node.args[:2])
        if kind is None or not isinstance(name, str) or not name.startswith("station_"):
            continue
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        labels = node.args[2] if len(node.args) > 2 else None
        labels = labels or keywords.get("labels") or keywords.get("labelnames")
        names = ast.literal_eval(labels) if labels is not None else ()
        if kind == "counter" and not name.endswith("_total"):
            name += "_total"
        yield Metric(name=name, kind=kind, labels=tuple(names), help=str(about))


def metrics_page() -> str:
    """docs/metrics.md."""
    declared = metrics()
    rows = [
        (f"`{m.name}`", m.kind, ", ".join(f"`{name}`" for name in m.labels), m.help)
        for m in declared
    ]
    labels = sorted({name for metric in declared for name in metric.labels})
    return page(
        [
            _METRICS_INTRODUCTION,
            table(("Name", "Type", "Labels", "Meaning"), rows),
            "## Labels\n",
            table(("Label", "Value"), [(f"`{name}`", LABELS[name]) for name in labels]),
        ]
    )
