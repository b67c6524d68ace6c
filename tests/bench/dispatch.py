"""(a) How fast runs are taken: throughput at saturation, and the time to start at half of that."""

from typing import Any

from django.db.models import Max, Min

from tests.bench.stage import Stage, cpu_seconds, paced, percentile, until

RUNS = 1500
SLOTS = 32
MODEL = "dispatch"
HALF_LOAD_SECONDS = 10.0


def scenario() -> list[dict[str, Any]]:
    """A model that answers at once."""
    return [{"name": MODEL, "turns": [{"say": "Done."}]}]


def station(stage: Stage, model_url: str) -> dict[str, float]:
    """Runs a second at saturation, then the start latency at half of that rate, in ms."""
    from runs.models import Run, Worker
    from tests import factories

    env = stage.environment(
        execution_queue={"workers": SLOTS, "buffer_size": 100_000},
        ai={"provider": "openai", "model": MODEL, "api_key": "none", "base_url": model_url},
    )
    agent = factories.agent()
    Worker.objects.all().delete()
    worker = stage.start("-m", "station.cli.main", "worker", env=env)
    until(Worker.objects.exists, "the worker")
    warm = factories.run(agent)
    until(lambda: Run.objects.get(pk=warm.pk).is_terminal, "the first run")
    agent.paused = True
    agent.save()
    for _ in range(RUNS):
        factories.run(agent)
    until(lambda: stage.queued("station") == 0, "the bells of a paused agent")
    before = cpu_seconds(worker.pid)
    agent.paused = False
    agent.save()
    from runs.bell import ring

    ring(SLOTS)
    mine = Run.objects.filter(agent=agent, pk__gt=warm.pk)
    until(lambda: not mine.filter(finished_at=None).exists(), f"{RUNS} runs", 300)
    cpu = cpu_seconds(worker.pid) - before
    span = mine.aggregate(span=Max("finished_at") - Min("claimed_at"))["span"]
    rate = RUNS / span.total_seconds()
    assert not mine.exclude(status="succeeded").exists()
    last = mine.order_by("-pk")[0].pk
    paced(lambda: factories.run(agent), rate / 2, HALF_LOAD_SECONDS)
    later = Run.objects.filter(agent=agent, pk__gt=last)
    until(lambda: not later.filter(finished_at=None).exists(), "the paced runs", 60)
    waits = [
        (claimed - created).total_seconds() * 1000
        for created, claimed in later.values_list("created_at", "started_at")
        if claimed is not None
    ]
    stage.stop(worker)
    return {
        "runs_per_s": rate,
        "cpu_ms_per_run": cpu / RUNS * 1000,
        "half_load_per_s": len(waits) / HALF_LOAD_SECONDS,
        "start_p50_ms": percentile(waits, 0.5),
        "start_p99_ms": percentile(waits, 0.99),
    }
