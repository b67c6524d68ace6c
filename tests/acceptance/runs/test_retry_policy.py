"""Runs of agents with a retry policy, carried by a worker that asks the model once a claim."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runs import services
from runs.commands.live import resource
from runs.entries import Kind
from runs.models import Run
from runs.scripted.testing import ScriptedModel
from tests import factories
from tests.acceptance.runs.stage import Stage, call, events, gapless
from tests.processes import Crew, until

pytestmark = pytest.mark.django_db(transaction=True)
_NOTE = call("append_line", text="{{input}}")
_DOWN = {"say": "done", "error": {"status": 503}}
SCRIPTS: list[dict[str, Any]] = [
    {"name": "down-twice", "turns": [_NOTE, {**_DOWN, "error": {"status": 503, "times": 2}}]},
    {"name": "down", "turns": [_NOTE, _DOWN]},
    {"name": "slow", "turns": [{**_DOWN, "delay": 60}]},
    {"name": "locked", "turns": [{**_DOWN, "error": {"status": 401}}]},
]
POLICY: dict[str, Any] = {
    "on": ["model_unavailable", "model_rate_limited"],
    "at_most": 2,
    "backoff": 0.1,
}


@pytest.fixture(scope="module")
def flaky() -> Iterator[ScriptedModel]:
    with ScriptedModel(SCRIPTS) as model:
        yield model


def test_a_failed_run_goes_on_as_its_agents_policy_says(
    database: None, config: Mapping[str, Any], flaky: ScriptedModel, tmp_path: Path
) -> None:
    stage = Stage(flaky, tmp_path)

    def submit(script: str, task: str, *, timeout: float | None = None, **policy: Any) -> Run:
        agent = factories.agent(
            stage.environment, task, model=script, tools=["tools/*"], retry=policy or None
        )
        return factories.run(agent, f"{stage.environment.name} {task}", timeout=timeout)

    with Crew(tmp_path, {**config, "ai": _ai(flaky)}) as crew:
        crew.start("keeper")
        crew.worker()
        recovers = submit("down-twice", "recovers", **POLICY)
        gives_up = submit("down", "gives-up", **POLICY)
        no_policy = submit("down", "no-policy")
        permanent = submit("locked", "permanent", **POLICY)
        late = submit("slow", "late", timeout=0.5, **POLICY)
        called_off = submit("down", "called-off", **POLICY | {"backoff": 3600})
        missing = factories.run(
            factories.agent(
                stage.environment, "missing", tools=["none/*"],
                retry=POLICY | {"on": ["tools_unavailable"], "at_most": 1},
            )
        )  # fmt: skip

        until(lambda: Run.objects.filter(pk=called_off.pk, retries=1, status="queued").exists())
        services.cancel(factories.OPERATOR, Run.objects.get(pk=called_off.pk))
        ended = {
            run.pk: stage.ended(run)
            for run in (recovers, gives_up, no_policy, permanent, late, called_off, missing)
        }

    def told(run: Run) -> tuple[str, str, int, int, int]:
        """Status, code, retries, claims, and effects of the run's tool."""
        row = ended[run.pk]
        claims = len(events(run, Kind.CLAIMED))
        return row.status, row.error_code, row.retries, claims, stage.effects(run)

    assert told(recovers) == ("succeeded", "", 2, 3, 1)
    assert stage.asked(recovers) == 1 + 3
    assert told(gives_up) == ("failed", "model_unavailable", 2, 3, 1)
    assert "retried 2 times, as often as" in ended[gives_up.pk].error_message
    assert told(no_policy) == ("failed", "model_unavailable", 0, 1, 1)
    assert "retried" not in ended[no_policy.pk].error_message
    assert told(permanent) == ("failed", "model_auth", 0, 1, 0)
    assert told(late) == ("timed_out", "timeout", 0, 1, 0)
    assert told(called_off) == ("cancelled", "", 1, 1, 1)
    assert told(missing) == ("failed", "tools_unavailable", 1, 2, 0)

    first, second = (event.payload for event in events(recovers, Kind.RELEASED))
    assert (first["reason"], first["error"]["code"]) == ("retry", "model_unavailable")
    assert [(each["retry"], each["at_most"]) for each in (first, second)] == [(1, 2), (2, 2)]
    assert 0.1 <= first["delay"] <= 0.11
    assert 0.2 <= second["delay"] <= 0.22
    assert all(gapless(row) for row in ended.values())
    assert resource(ended[recovers.pk])["retries"] == 2


def test_a_worker_rings_when_the_pause_is_over(
    database: None, config: Mapping[str, Any], flaky: ScriptedModel, tmp_path: Path
) -> None:
    """There is no keeper that would."""
    stage = Stage(flaky, tmp_path)
    with Crew(tmp_path, {**config, "ai": _ai(flaky)}) as crew:
        crew.worker()
        agent = factories.agent(
            stage.environment, model="down-twice", tools=["tools/*"], retry=POLICY
        )
        ended = stage.ended(factories.run(agent, f"{stage.environment.name} alone"))
    assert (ended.status, ended.retries) == ("succeeded", 2)


def _ai(model: ScriptedModel) -> dict[str, Any]:
    return {
        "base_url": model.base_url,
        "api_key": "none",
        "max_retries": 0,
        "circuit_failures": 0,
    }
