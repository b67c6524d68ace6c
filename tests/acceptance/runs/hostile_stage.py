"""One impatient worker for guests that behave as badly as they can, and a watch on its memory."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from agents.models import Agent
from runs.models import Run, RunEvent
from runs.scripted.testing import ScriptedModel
from runs.states import TERMINAL
from tests import factories
from tests.processes import Crew, Process, until

MEBIBYTE = 1024 * 1024
MODEL_PATIENCE = 2.0
TOOL_PATIENCE = 3.0
SETTLED = {*TERMINAL, "waiting"}
KEPT = 64 * MEBIBYTE
"""What more of the same may leave behind: less than a few answers that were too large."""
_SAMPLE = 0.02


@dataclass
class Memory:
    """The resident memory of a process, sampled all the time."""

    process: Process
    peak: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def now(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch, name="memory watch")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE):
            with contextlib.suppress(psutil.NoSuchProcess):
                self.peak = max(self.peak, self.now)


class Step(NamedTuple):
    """An entry of a journal, without what it says."""

    seq: int
    kind: str
    is_error: bool | None


@dataclass(frozen=True, kw_only=True)
class Played:
    """How it went: every run as it ended up, and what the worker's memory grew by, in bytes."""

    rows: Mapping[str, Run]
    journals: Mapping[str, Sequence[Step]]
    seconds: float
    growth: int
    kept: int
    """Growth that was left once everything was over."""


@contextlib.contextmanager
def impatient_worker(folder: Path, model: ScriptedModel, *, slots: int) -> Iterator[Process]:
    config: dict[str, Any] = {
        "execution_queue": {
            "workers": slots,
            "lease": "6s",
            "heartbeat": "500ms",
            "keeper_tick": "500ms",
            "shutdown_grace": "1s",
        },
        "ai": {
            "base_url": model.base_url,
            "api_key": "none",
            "request_timeout": f"{MODEL_PATIENCE:g}s",
            "max_retries": 1,
            "circuit_failures": 0,  # the runs are to end, not to wait
        },
        "mcp": {
            "stdio_commands": [sys.executable],
            "request_timeout": f"{TOOL_PATIENCE:g}s",
            "max_retries": 1,
            "connection_pool_size": slots + 8,
        },
        "database": {"max_connections": 8, "max_idle_connections": 1},
    }
    with Crew(folder, config) as crew:
        crew.start("keeper")
        yield crew.worker()


def play(worker: Process, runs: Mapping[str, Run], *, before: int, within: float) -> Played:
    """Wait until every run has ended or waits. ``before`` is the memory to compare with."""
    memory = Memory(worker)
    begun = time.monotonic()
    open_ones = Run.objects.filter(pk__in=[run.pk for run in runs.values()]).exclude(
        status__in=SETTLED
    )
    with memory.watched():
        until(lambda: not open_ones.exists(), within=within, what="the end of every run")
    assert worker.running, worker.said
    return Played(
        rows={name: Run.objects.get(pk=run.pk) for name, run in runs.items()},
        journals={name: _journal(run) for name, run in runs.items()},
        seconds=time.monotonic() - begun,
        growth=memory.peak - before,
        kept=memory.now - before,
    )


def kept_of_another_round(
    worker: Process, agents: Mapping[str, Agent], *, rounds: int, within: float
) -> int:
    """What the worker's memory grows by when the agents run again, so many times, in bytes."""
    before = Memory(worker).now
    for _ in range(rounds):
        runs = {name: factories.run(agent) for name, agent in agents.items()}
        kept = play(worker, runs, before=before, within=within).kept
    return kept


def _journal(run: Run) -> list[Step]:
    rows = RunEvent.objects.filter(run_id=run.pk).order_by("seq")
    return [Step(*row) for row in rows.values_list("seq", "kind", "payload__is_error")]
