"""A worker is stopped past its lease, another takes over, and the first goes on unaware."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import models
from django.utils import timezone

from runs.entries import Kind
from runs.models import Run, RunEvent, Worker
from runs.scripted.testing import ScriptedModel
from tests.acceptance.runs import gated_tools
from tests.acceptance.runs.stage import Stage, events, gapless, status
from tests.processes import Crew, Process, alive, until

pytestmark = pytest.mark.django_db(transaction=True)
FINISHED = ("asking", "looking", "refused")
DOUBTFUL = ("writing", "gated", "connecting")


@dataclass(frozen=True, kw_only=True)
class World:
    """What can be seen from outside."""

    rows: dict[str, dict[str, Any]]
    journals: dict[str, list[dict[str, Any]]]
    requests: int
    effects: list[str]


@dataclass(frozen=True, kw_only=True)
class Comeback:
    """How things stood before the frozen worker went on, and how after it."""

    before: World
    after: World
    asked: dict[str, int]
    gapless: bool
    next_claimed_by: str
    worker: str


@pytest.fixture(scope="module")
def comeback(
    database: None,
    config: Mapping[str, Any],
    model: ScriptedModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Comeback:
    folder = tmp_path_factory.mktemp("frozen")
    with Crew(folder, config) as crew:
        crew.start("keeper")
        sleeper, heir = crew.workers(2)
        return _play(Stage(model, folder), folder / "gate", sleeper, heir)


def _play(stage: Stage, gate: Path, sleeper: Process, heir: Process) -> Comeback:
    script = gated_tools.__file__
    stage.add_server(stage.environment, "gated", command=(script, str(gate)))
    stage.rehearse()
    heir.freeze()
    gated = ("gated/*",)
    runs = {
        "gated": stage.submit("gated-look", tools=gated),
        "writing": stage.submit("note-and-hang"),
    }
    until(lambda: events(runs["gated"], Kind.TOOL_CALLED), what="the gated call")
    (calling,) = _gated(sleeper)
    gate.write_text(str(sleeper.pid))
    runs["connecting"] = stage.submit("gated-note", tools=gated)
    until(lambda: events(runs["connecting"], Kind.TOOL_CALLED), what="the waiting call")
    runs["asking"] = stage.submit("note-and-think")
    runs["looking"] = stage.submit("look")
    runs["refused"] = stage.submit("refused-once", tools=())
    until(lambda: stage.effects(runs["writing"]), what="the effect")
    until(lambda: stage.asked(runs["asking"]) == 2, what="the second question")
    until(lambda: events(runs["looking"], Kind.TOOL_CALLED), what="the look")
    until(lambda: events(runs["refused"], Kind.MODEL_RETRIED), what="the refusal")
    (connecting,) = until(lambda: set(_gated(sleeper)) - {calling}, what="the handshake")
    sleeper.freeze()
    heir.thaw()
    for phase in DOUBTFUL:
        until(lambda phase=phase: status(runs[phase]) == "waiting", what=phase)  # type: ignore[misc]
    for phase in FINISHED:
        stage.ended(runs[phase])
    gate.unlink()
    until(lambda: connecting.io_counters().write_chars, what="the handshake's answer")
    before = _world(stage, runs)
    heir.freeze()
    thawed_at = timezone.now()
    sleeper.thaw()
    woken = Worker.objects.filter(pid=sleeper.pid, seen_at__gt=thawed_at, busy=0)
    until(woken.exists, what="the worker, letting go")
    until(lambda: not alive(calling.pid), what="the end of the tool server of a lost call")
    after = _world(stage, runs)
    one_more = stage.submit("answer", tools=())
    stage.ended(one_more)
    return Comeback(
        before=before,
        after=after,
        asked={phase: stage.asked(run) for phase, run in runs.items()},
        gapless=all(map(gapless, runs.values())),
        next_claimed_by=events(one_more, Kind.CLAIMED)[0].payload["worker"],
        worker=Worker.objects.get(pid=sleeper.pid).name,
    )


def _world(stage: Stage, runs: Mapping[str, Run]) -> World:
    return World(
        rows={phase: _values(Run, pk=run.pk)[0] for phase, run in runs.items()},
        journals={phase: _values(RunEvent, run=run) for phase, run in runs.items()},
        requests=len(stage.model.requests),
        effects=stage.sink.read_text().splitlines(),
    )


def _values(model: type[models.Model], **which: Any) -> list[dict[str, Any]]:
    return list(model._default_manager.filter(**which).order_by("pk").values())


def _gated(worker: Process) -> list[psutil.Process]:
    """The tool servers of the worker that have a gate."""
    servers = map(psutil.Process, worker.children)
    return [server for server in servers if gated_tools.__file__ in server.cmdline()]


def test_the_other_worker_carries_the_runs_to_their_end(comeback: Comeback) -> None:
    for phase in FINISHED:
        assert comeback.before.rows[phase]["status"] == "succeeded", phase
    for phase in DOUBTFUL:
        row = comeback.before.rows[phase]
        assert (row["status"], row["wait_reason"]) == ("waiting", "doubt"), phase


def test_the_worker_that_was_frozen_writes_nothing(comeback: Comeback) -> None:
    assert comeback.after.rows == comeback.before.rows
    assert comeback.after.journals == comeback.before.journals
    assert comeback.gapless


def test_it_asks_no_model(comeback: Comeback) -> None:
    assert comeback.after.requests == comeback.before.requests
    assert comeback.asked["refused"] == 2
    assert comeback.asked["asking"] == 3


def test_it_calls_no_tool_not_even_one_it_was_still_connecting_to(comeback: Comeback) -> None:
    assert comeback.after.effects == comeback.before.effects
    assert len(comeback.before.effects) == 2  # one of "asking", one of "writing"


def test_it_is_ready_for_the_next_run(comeback: Comeback) -> None:
    assert comeback.next_claimed_by == comeback.worker
