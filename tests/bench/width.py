"""(b) How many runs one worker process holds, and what a run costs it."""

import time
from typing import Any

from tests.bench.stage import Stage, cpu_seconds, peak_memory, until

RUNS = 500
THINKING = 1.0
MODEL = "width"


def scenario() -> list[dict[str, Any]]:
    """Two model calls of a second each, with one tool call between them."""
    return [
        {
            "name": MODEL,
            "turns": [
                {
                    "delay": f"{THINKING}s",
                    "say": "I look.",
                    "tool_calls": [{"name": "bench__append_line", "arguments": {"text": "x"}}],
                },
                {"delay": f"{THINKING}s", "say": "Done."},
            ],
        }
    ]


def station(stage: Stage, model_url: str, tools_url: str, runs: int = RUNS) -> dict[str, float]:
    """Carry ``runs`` runs at once in one worker process."""
    from runs.models import Run, Worker
    from tests import factories
    from toolservers import services as toolservers

    env = stage.environment(
        execution_queue={"workers": runs, "buffer_size": 10_000},
        ai={"provider": "openai", "model": MODEL, "api_key": "none", "base_url": model_url},
    )
    where = factories.environment()
    toolservers.add(
        factories.OPERATOR, environment_id=where.pk, name="bench", transport="http", url=tools_url
    )
    agent = factories.agent(where, tools=("bench/append_line",))
    worker = stage.start("-m", "station.cli.main", "worker", env=env)
    until(Worker.objects.exists, "the worker")
    warm = factories.run(agent)
    until(lambda: Run.objects.get(pk=warm.pk).is_terminal, "the first run")
    assert Run.objects.get(pk=warm.pk).status == "succeeded", Run.objects.get(
        pk=warm.pk
    ).error_message
    before = cpu_seconds(worker.pid)
    with peak_memory(worker.pid) as samples:
        begun = time.monotonic()
        for _ in range(runs):
            factories.run(agent)
        mine = Run.objects.filter(agent=agent, pk__gt=warm.pk)
        until(lambda: not mine.filter(finished_at=None).exists(), f"{runs} runs", 300)
        wall = time.monotonic() - begun
    cpu = cpu_seconds(worker.pid) - before
    succeeded = mine.filter(status="succeeded").count()
    others = mine.exclude(status="succeeded").values_list("error_message", flat=True)
    assert succeeded == runs, f"{succeeded} of {runs} runs succeeded; {others[:3]}"
    first, last = mine.order_by("created_at")[0], mine.order_by("-finished_at")[0]
    assert last.finished_at is not None
    span = (last.finished_at - first.created_at).total_seconds()
    stage.stop(worker)
    return {
        "succeeded": succeeded,
        "wall_s": wall,
        "span_s": span,
        "peak_mb": max(samples),
        "cpu_ms_per_run": cpu / runs * 1000,
    }
