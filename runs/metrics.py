"""The metrics of runs. The names are part of Station's interface."""

from collections.abc import Iterable
from decimal import Decimal

from prometheus_client import Counter, Histogram

from runs.states import TERMINAL, Status

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)

RUNS = Counter(
    "station_agent_runs_total", "Runs that reached a terminal status.", ["environment", "status"]
)
RUN_DURATION = Histogram(
    "station_agent_run_duration_seconds",
    "Time from a worker's claim of a run to its end.",
    buckets=_SECONDS,
)
QUEUE_WAIT = Histogram(
    "station_queue_wait_seconds",
    "Time from when a run could start to its first claim.",
    buckets=_SECONDS,
)
TOKENS = Counter("station_tokens_total", "Model tokens.", ["model", "kind"])
COST = Counter("station_cost_usd_total", "Model cost in US dollars.", ["environment", "model"])
LEASES_LOST = Counter("station_leases_lost_total", "Runs a worker had to let go of unfinished.")
BELLS_LOST = Counter("station_bells_lost_total", "Doorbell messages the broker did not take.")


def prime(environments: Iterable[str], model: str) -> None:
    """Make the counters of what is known already start at 0 instead of being absent."""
    for environment in environments:
        for status in TERMINAL:
            RUNS.labels(environment, status.value)
        COST.labels(environment, model)
    for kind in ("input", "output"):
        TOKENS.labels(model, kind)


def left(environment: str, status: Status, seconds: float) -> None:
    """Count a run that a worker let go of, ``seconds`` after its claim."""
    if status in TERMINAL:
        RUNS.labels(environment, status.value).inc()
        RUN_DURATION.observe(seconds)


def answered(
    environment: str, model: str, *, input_tokens: int, output_tokens: int, cost_usd: Decimal
) -> None:
    """Count what one answer of a model took."""
    TOKENS.labels(model, "input").inc(input_tokens)
    TOKENS.labels(model, "output").inc(output_tokens)
    COST.labels(environment, model).inc(float(cost_usd))
