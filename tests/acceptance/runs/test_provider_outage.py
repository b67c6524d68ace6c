"""A model provider is down for a while: runs wait for it in the queue."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runs import queue
from runs.entries import Kind
from runs.models import Circuit
from runs.scripted.testing import ScriptedModel
from tests.acceptance.runs.stage import Stage, events
from tests.processes import Crew, until

pytestmark = pytest.mark.django_db(transaction=True)


def test_runs_wait_for_the_provider_and_use_up_nothing(
    database: None, config: Mapping[str, Any], model: ScriptedModel, tmp_path: Path
) -> None:
    stage = Stage(model, tmp_path)
    with Crew(tmp_path, config) as crew:
        crew.start("keeper")
        crew.worker(ai={"circuit_failures": 2})
        unlucky = stage.submit("down-twice", tools=())
        until(lambda: bool(events(unlucky, Kind.RELEASED)), what="the open circuit")
        behind = stage.submit("answer", tools=())
        assert "The model provider openai failed 2 times in a row" in queue.why_queued(behind)
        assert [stage.ended(run).status for run in (unlucky, behind)] == ["succeeded"] * 2
    (released,) = events(unlucky, Kind.RELEASED)
    assert released.payload["reason"] == "model_unavailable"
    assert stage.asked(unlucky) == 3
    (claimed,) = events(behind, Kind.CLAIMED)
    assert claimed.at > events(unlucky, Kind.CLAIMED)[0].at
    assert claimed.at >= released.at, "it was not claimed as long as nobody could be asked"
    assert not Circuit.objects.exists()
