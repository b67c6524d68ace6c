"""Deciding, retrying and cancelling runs by filter over REST; caps; a full queue."""

import json
from typing import Any

import pytest

from runs import journal, queue, services
from runs.entries import Kind
from runs.models import Run
from station import config
from tests import factories
from tests.integration.api.documented import conforms
from tests.integration.api.world import ROOT, Caller, World
from tests.integration.runs.doubting import CALLS, doubt

BOTH: dict[str, Any] = {
    "decisions": [
        {"call_id": "c1", "verdict": "happened", "result": "order 7"},
        {"call_id": "c2", "verdict": "repeat"},
    ],
    "why": "I looked.",
}


def said(response: Any) -> Any:
    return json.loads(response.content)


@pytest.fixture
def waiting(world: World) -> Run:
    Run.objects.exclude(pk=world.run.pk).delete()
    return doubt()


def test_a_run_in_doubt_shows_its_calls_and_goes_on_once_decided(
    openapi: dict[str, Any], waiting: Run, operator: Caller
) -> None:
    assert said(operator("GET", f"runs/{waiting.pk}"))["open_calls"] == CALLS
    response = operator("POST", f"runs/{waiting.pk}/decide", BOTH)
    conforms(openapi, "run-decision", "post", 200, response.content)
    run = said(response)
    assert (run["status"], run["open_calls"]) == ("queued", None)
    (first, _) = [e.payload for e in journal.read(waiting.pk) if e.kind is Kind.DECIDED]
    assert (first["decision"], first["result"], first["why"]) == (
        "happened",
        "order 7",
        "I looked.",
    )
    assert "operator-person" in first["by"]
    again = operator("POST", f"runs/{waiting.pk}/decide", BOTH)
    assert (again.status_code, said(again)["code"]) == (409, "nothing_to_decide")


def test_one_stop_ends_the_run(waiting: Run, operator: Caller) -> None:
    body = {"decisions": [{"call_id": c["call_id"], "verdict": "stop"} for c in CALLS]}
    run = said(operator("POST", f"runs/{waiting.pk}/decide", body))
    assert (run["status"], run["error"]["code"]) == ("failed", "stopped_in_doubt")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "decisions"),
        ({"decisions": []}, "decisions"),
        ({"decisions": "c1"}, "decisions"),
        ({"decisions": ["c1"]}, "decisions[0]"),
        ({"decisions": [{"call_id": "c1", "verdict": "maybe"}]}, "decisions[0].verdict"),
        ({"decisions": [BOTH["decisions"][0], {"verdict": "stop"}]}, "decisions[1].call_id"),
        ({"decisions": [{"call_id": "zz", "verdict": "stop"}]}, "decisions[0].call_id"),
        ({"decisions": [{"call_id": "c1", "verdict": "stop", "x": 1}]}, "decisions[0].x"),
    ],
)
def test_an_unclear_decision_names_its_field_and_changes_nothing(
    waiting: Run, operator: Caller, body: Any, field: str
) -> None:
    response = operator("POST", f"runs/{waiting.pk}/decide", body)
    assert response.status_code == 422
    assert said(response)["errors"][0]["field"] == field
    waiting.refresh_from_db()
    assert waiting.status == "waiting"


def test_a_retry_is_a_new_run_at_its_location(
    openapi: dict[str, Any], world: World, operator: Caller
) -> None:
    early = operator("POST", f"runs/{world.run.pk}/retry")
    assert (early.status_code, said(early)["code"]) == (409, "run_not_finished")
    operator("POST", f"runs/{world.run.pk}/cancel")
    response = operator("POST", f"runs/{world.run.pk}/retry")
    assert response.status_code == 202
    conforms(openapi, "run-retry", "post", 202, response.content)
    run = said(operator("GET", response["Location"]))
    assert (run["retry_of"], run["input"]) == (world.run.pk, world.run.input)


def test_a_retry_with_a_key_is_made_once(world: World, operator: Caller) -> None:
    operator("POST", f"runs/{world.run.pk}/cancel")
    key = {"Idempotency-Key": "again"}
    path = f"runs/{world.run.pk}/retry"
    first, second = (said(operator("POST", path, headers=key)) for _ in range(2))
    assert first["id"] == second["id"]
    assert said(operator("POST", path))["id"] != first["id"]
    operator("POST", f"runs/{first['id']}/cancel")
    other = operator("POST", f"runs/{first['id']}/retry", headers=key)
    assert (other.status_code, said(other)["code"]) == (422, "idempotency_key_reused")


def test_runs_are_cancelled_by_the_filters_of_the_list(world: World, operator: Caller) -> None:
    elsewhere = Run.objects.exclude(environment=world.own).get()
    another = factories.agent(world.own)
    kept = factories.run(another)
    for _ in range(3):
        factories.run(world.agent)
    while not Run.objects.filter(agent=world.agent, status="running").exists():
        assert queue.claim("w", 60) is not None
    body = {"agent": world.agent.name, "status": "queued,running", "submitted_by": ROOT.label}
    assert said(operator("POST", "runs/cancel", body)) == {"cancelled": 4}
    assert said(operator("POST", "runs/cancel", body)) == {"cancelled": 0}
    for run in (kept, elsewhere):
        run.refresh_from_db()
        assert run.cancel_requested_at is None
    stopped = Run.objects.filter(agent=world.agent)
    assert all(run.cancel_requested_at is not None for run in stopped)


@pytest.mark.parametrize("body", [{}, {"environment": "other"}, {"state": "queued"}])
def test_a_cancellation_without_a_filter_one_knows_cancels_nothing(
    operator: Caller, body: dict[str, str]
) -> None:
    assert operator("POST", "runs/cancel", body).status_code == 422
    assert Run.objects.filter(status="queued").count() == 2


def test_who_only_looks_at_one_of_the_environments_cancels_nothing(world: World) -> None:
    factories.run(world.agent)
    refused = world.callers["viewer"]("POST", "runs/cancel", {"status": "queued"})
    assert (refused.status_code, "environment 'own'" in said(refused)["detail"]) == (403, True)
    assert not Run.objects.exclude(status="queued").exists()


def test_a_bulk_cancellation_takes_the_oldest_up_to_its_limit(world: World) -> None:
    runs = [factories.run(world.agent) for _ in range(3)]
    rows = services.visible(ROOT).filter(agent=world.agent)
    assert services.cancel_many(ROOT, rows, limit=2) == 2
    left = [run.pk for run in services.unfinished(rows).order_by("pk")]
    assert left == [run.pk for run in runs[1:]]


def test_an_environments_cap_is_set_shown_and_lifted(world: World, admin: Caller) -> None:
    for cap in (7, None):
        changed = admin("PATCH", "environments/own", {"max_running": cap})
        assert said(changed)["max_running"] == cap
        [state] = said(admin("GET", "queue"))["environments"]
        assert state["max_running"] == cap
    admin("PATCH", "environments/own", {"max_running": 7})
    assert said(admin("PATCH", "environments/own", {"paused": True}))["max_running"] == 7


def test_an_agents_caps_are_set_and_its_runs_show_their_key(world: World, operator: Caller) -> None:
    caps = {"max_running": 9, "concurrency_key": "customer.id", "max_running_per_key": 2}
    assert said(operator("PATCH", "agents/own-agent", caps)).items() >= caps.items()
    body = {"input": "Go.", "data": {"customer": {"id": 5}}}
    assert said(operator("POST", "agents/own-agent/runs", body))["concurrency_key"] == "5"
    lifted = said(operator("PATCH", "agents/own-agent", {"max_running": None}))
    assert (lifted["max_running"], lifted["max_running_per_key"]) == (None, 2)
    assert said(operator("PATCH", "agents/own-agent", {"concurrency_key": ""}))["paused"] is False


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("environments/own", {"max_running": 0}),
        ("environments/own", {"max_running": 10**12}),
        ("environments/own", {"max_running": "7"}),
        ("agents/own-agent", {"max_running": -1}),
        ("agents/own-agent", {"max_running_per_key": 0}),
        ("agents/own-agent", {"max_running_per_key": None}),
        ("agents/own-agent", {"concurrency_key": "a..b"}),
        ("agents/own-agent", {"concurrency_key": "a b"}),
        ("agents/own-agent", {"concurrency_key": "a\n"}),
        ("agents/own-agent", {"concurrency_key": "a" * 201}),
    ],
)
def test_a_cap_that_cannot_be_is_refused_at_its_field(
    admin: Caller, path: str, body: dict[str, Any]
) -> None:
    response = admin("PATCH", path, body)
    assert response.status_code == 422
    assert [said(response)["errors"][0]["field"]] == list(body)


def test_a_full_queue_is_said_with_when_to_try_again(
    openapi: dict[str, Any], operator: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = config.current()
    small = whole.execution_queue.model_copy(update={"buffer_size": 2})
    monkeypatch.setattr(
        queue, "current", lambda: whole.model_copy(update={"execution_queue": small})
    )
    monkeypatch.setattr(queue, "_room", queue._Room())
    response = operator("POST", "agents/own-agent/runs", {"input": "Go."})
    assert (response.status_code, said(response)["code"]) == (503, "queue_full")
    assert int(response["Retry-After"]) >= 1
    conforms(openapi, "agent-runs", "post", 503, response.content)
    assert Run.objects.count() == 2
