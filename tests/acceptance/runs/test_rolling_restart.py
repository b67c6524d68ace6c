"""Workers are replaced one after the other under a long run."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runs.entries import Kind
from runs.models import Run, Worker
from runs.scripted.testing import ScriptedModel
from tests.acceptance.runs.stage import Stage, events, gapless
from tests.processes import GONE, Crew, Process, until

pytestmark = pytest.mark.django_db(transaction=True)
STEPS = 16


def test_a_long_run_survives_three_replacements_of_its_worker(
    database: None,
    config: Mapping[str, Any],
    model: ScriptedModel,
    tmp_path: Path,
) -> None:
    with Crew(tmp_path, config) as crew:
        crew.start("keeper")
        workers = {worker.pid: worker for worker in crew.workers(4)}
        stage = Stage(model, tmp_path)
        run = stage.submit("note-16-times")
        terminated: list[tuple[Process, float]] = []
        for claims in (1, 2, 3):
            until(lambda n=claims: len(events(run, Kind.CLAIMED)) == n, what="a claim")  # type: ignore[misc]
            noted = stage.effects(run)
            until(lambda noted=noted: stage.effects(run) > noted, what="a step")  # type: ignore[misc]
            owner = Worker.objects.get(name=Run.objects.get(pk=run.pk).worker)
            worker = workers[owner.pid]
            assert worker.title == "station worker"
            worker.terminate()
            terminated.append((worker, time.monotonic()))
        for worker, since in terminated:
            assert worker.wait(within=max(since + GONE - time.monotonic(), 0.1)) == 0
            assert not Worker.objects.filter(pid=worker.pid).exists()
        ended = stage.ended(run)
    assert (ended.status, ended.crashes) == ("succeeded", 0)
    assert [event.payload["reason"] for event in events(run, Kind.RELEASED)] == ["drained"] * 3
    assert stage.effects(run) == STEPS
    assert stage.asked(run) == STEPS + 1
    assert [call.payload["attempt"] for call in events(run, Kind.TOOL_CALLED)] == [1] * 2 * STEPS
    assert len(events(run, Kind.TOOL_RETURNED)) == 2 * STEPS
    assert gapless(run)
