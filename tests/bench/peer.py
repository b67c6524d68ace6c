"""Measurements of the peer, shaped like Station's own."""

import threading
import time
from typing import Any

import redis

from tests.bench import dispatch, width
from tests.bench.peer_app import DONE, LATENCIES, converse, noop
from tests.bench.stage import (
    Stage,
    cpu_seconds,
    paced,
    peak_memory,
    percentile,
    pss_megabytes,
    until,
)

TASKS = 3000
CONVERSATIONS = 24


def _worker(stage: Stage, *options: str) -> Any:
    return stage.start(
        "-m", "celery", "-A", "tests.bench.peer_app", "--quiet", "worker", "-l", "ERROR",
        "--without-gossip", "--without-mingle", "-Q", "peer", *options,
        env={"STN_REDIS_URL": stage.valkey.url},
    )  # fmt: skip


def dispatched(stage: Stage) -> dict[str, float]:
    """Bare no-op tasks: tasks a second at saturation, start latency at half of that, in ms."""
    valkey = redis.Redis.from_url(stage.valkey.url)

    def finished() -> int:
        return int(valkey.llen(LATENCIES))

    # Filled before anybody listens, so that both sides are measured draining a full queue; a
    # worker that was killed before would have taken a message along.
    for _ in range(TASKS):
        noop.delay(time.time())
    worker = _worker(stage, "--pool", "threads", "--concurrency", str(dispatch.SLOTS))
    until(lambda: finished() > 0, "the first task")
    begun, at_start = time.monotonic(), finished()
    before = cpu_seconds(worker.pid)
    until(lambda: finished() == TASKS, "the peer's tasks")
    rate = (TASKS - at_start) / (time.monotonic() - begun)
    cpu = cpu_seconds(worker.pid) - before
    valkey.delete(LATENCIES)
    sender = threading.Thread(target=paced, args=(lambda: noop.delay(time.time()), rate / 2, 10.0))
    sender.start()
    sender.join()
    until(lambda: stage.queued("peer") == 0, "the paced tasks")
    waits = [float(value) * 1000 for value in valkey.lrange(LATENCIES, 0, -1)]
    valkey.delete(LATENCIES)
    stage.stop(worker)
    return {
        "tasks_per_s": rate,
        "cpu_ms_per_task": cpu / (TASKS - at_start) * 1000,
        "start_p50_ms": percentile(waits, 0.5),
        "start_p99_ms": percentile(waits, 0.99),
    }


def conversed(stage: Stage, model_url: str, tools_url: str, memory_mb: float) -> dict[str, float]:
    """The same conversations in Celery's prefork pool, given ``memory_mb``."""
    valkey = redis.Redis.from_url(stage.valkey.url)

    def done() -> int:
        return int(valkey.get(DONE) or 0)

    probe = _worker(stage, "--pool", "prefork", "--concurrency", "2")
    for _ in range(4):
        converse.delay(model_url, tools_url, width.MODEL)
    until(lambda: done() == 4, "the peer's first conversations")
    each = pss_megabytes(probe.pid) / 2
    stage.stop(probe)
    processes = max(1, int(memory_mb / each))
    worker = _worker(stage, "--pool", "prefork", "--concurrency", str(processes))
    for _ in range(processes):
        converse.delay(model_url, tools_url, width.MODEL)
    until(lambda: done() == 4 + processes, "the peer's warm-up")
    before, count = cpu_seconds(worker.pid), done()
    with peak_memory(worker.pid) as samples:
        begun = time.monotonic()
        for _ in range(CONVERSATIONS):
            converse.delay(model_url, tools_url, width.MODEL)
        until(lambda: done() == count + CONVERSATIONS, "the peer's conversations", 300)
        wall = time.monotonic() - begun
    cpu = cpu_seconds(worker.pid) - before
    valkey.delete(DONE)
    stage.stop(worker)
    return {
        "processes": processes,
        "peak_mb": max(samples),
        "cpu_ms_per_run": cpu / CONVERSATIONS * 1000,
        "wall_s_for_500": wall / CONVERSATIONS * 500,
    }
