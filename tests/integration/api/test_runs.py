"""Runs over REST: submitting once, looking, following the journal, cancelling."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from runs import journal, queue, transitions
from runs.entries import Entry, Kind
from runs.models import Run, Worker
from runs.states import Status
from tests import factories
from tests.integration.api.world import Caller, World, build

SUBMIT = "agents/own-agent/runs"
BODY: dict[str, Any] = {"input": "Go.", "data": {"n": 1}, "priority": 5, "timeout": "5m"}


def submit(caller: Caller, body: dict[str, Any], key: str | None = None) -> tuple[int, Any]:
    headers = {} if key is None else {"Idempotency-Key": key}
    response = caller("POST", SUBMIT, body, headers=headers)
    return response.status_code, json.loads(response.content)


def test_a_submitted_run_is_found_at_its_location(operator: Caller) -> None:
    response = operator("POST", SUBMIT, BODY | {"queue_timeout": 60})
    assert response.status_code == 202
    run = json.loads(response.content)
    assert (run["input"], run["data"], run["priority"]) == ("Go.", {"n": 1}, 5)
    assert (run["timeout"], run["status"]) == (300, "queued")
    assert run["queue_deadline"] is not None
    found = operator("GET", response["Location"])
    assert json.loads(found.content)["id"] == run["id"]
    assert Run.objects.get(pk=run["id"]).request_id == response["X-Request-ID"]


def test_the_agent_may_be_given_by_its_id(world: World, operator: Caller) -> None:
    assert operator("POST", f"agents/{world.agent.pk}/runs", BODY).status_code == 202


def test_a_queued_run_says_why(world: World, operator: Caller) -> None:
    operator("PATCH", "agents/own-agent", {"paused": True})
    _, run = submit(operator, BODY)
    assert "paused" in run["why_queued"]


def test_the_same_request_with_the_same_key_is_one_run(world: World, operator: Caller) -> None:
    first = submit(operator, BODY, "k-1")
    again = submit(operator, BODY, "k-1")
    assert first[0] == again[0] == 202
    assert first[1]["id"] == again[1]["id"]
    assert Run.objects.filter(agent=world.agent, input="Go.").count() == 1


def test_another_request_with_the_same_key_is_refused(world: World, operator: Caller) -> None:
    submit(operator, BODY, "k-1")
    status, problem = submit(operator, BODY | {"priority": 6}, "k-1")
    assert (status, problem["code"]) == (422, "idempotency_key_reused")
    assert Run.objects.filter(agent=world.agent, input="Go.").count() == 1


def test_two_people_may_use_the_same_key(world: World, operator: Caller, admin: Caller) -> None:
    assert submit(operator, BODY, "k-1")[1]["id"] != submit(admin, BODY, "k-1")[1]["id"]


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_that_cannot_be_kept_is_refused(operator: Caller, key: str) -> None:
    status, problem = submit(operator, BODY, key)
    assert status == 422
    assert problem["errors"][0]["field"] == "Idempotency-Key"


@pytest.mark.django_db(transaction=True)
def test_duplicates_that_arrive_together_are_one_run() -> None:
    world = build()
    together = threading.Barrier(8)

    def send() -> tuple[int, Any]:
        together.wait(timeout=20)
        try:
            return submit(world.callers["operator"], BODY, "k-1")
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        answers = [future.result() for future in [pool.submit(send) for _ in range(8)]]
    assert {status for status, _ in answers} == {202}
    assert len({run["id"] for _, run in answers}) == 1
    assert Run.objects.filter(agent=world.agent, input="Go.").count() == 1


def test_a_queued_run_is_cancelled_at_once_and_only_once(world: World, operator: Caller) -> None:
    path = f"runs/{world.run.pk}/cancel"
    response = operator("POST", path)
    assert response.status_code == 200
    run = json.loads(response.content)
    assert (run["status"], run["why_queued"]) == ("cancelled", None)
    again = operator("POST", path)
    assert again.status_code == 409
    assert json.loads(again.content)["code"] == "run_finished"


def test_a_running_run_is_told_to_stop(world: World, operator: Caller) -> None:
    moved = queue.claim("tests", 60)
    assert moved is not None
    for _ in range(2):  # asking again is no error
        response = operator("POST", f"runs/{moved.run_id}/cancel")
        assert response.status_code == 200
        run = json.loads(response.content)
        assert run["status"] == "running"
        assert run["cancel_requested_at"] is not None


def test_a_failed_run_keeps_its_reason(world: World, operator: Caller) -> None:
    moved = queue.claim("tests", 60)
    assert moved is not None
    ended = transitions.finish(
        moved.run_id,
        moved.fence,
        Status.FAILED,
        error=("max_steps_reached", "It went on and on.", ""),
    )
    assert ended is not None
    run = json.loads(operator("GET", f"runs/{moved.run_id}").content)
    assert run["status"] == "failed"
    assert run["error"] == {
        "code": "max_steps_reached",
        "message": "It went on and on.",
        "reference": "",
    }


def test_the_journal_is_read_in_pages_without_a_gap(world: World, operator: Caller) -> None:
    moved = queue.claim("tests", 60)
    assert moved is not None
    entries = [Entry(kind=Kind.MODEL_ANSWERED, payload={"n": n}) for n in range(5)]
    journal.append(moved.run_id, moved.fence, entries)
    path = f"/api/v1/runs/{moved.run_id}/events?limit=3"
    seen: list[dict[str, Any]] = []
    while path:
        page = json.loads(operator("GET", path).content)
        assert len(page["items"]) <= 3
        seen += page["items"]
        path = (page["next"] or "").removeprefix("http://testserver")
    assert [event["seq"] for event in seen] == list(range(1, 8))
    assert seen[0]["kind"] == "run.submitted"
    assert seen[-1]["payload"] == {"n": 4}
    rest = operator("GET", f"runs/{moved.run_id}/events", query={"after": "6"})
    assert [event["seq"] for event in json.loads(rest.content)["items"]] == [7]


def test_the_queue_shows_ones_environments_and_the_workers(world: World) -> None:
    Worker.objects.create(name="w", host="h", pid=1, slots=4, busy=1)
    found = json.loads(world.callers["viewer"]("GET", "queue").content)
    [state] = found["environments"]
    assert (state["environment"], state["queued"], state["paused"]) == ("own", 1, False)
    assert [(w["name"], w["slots"], w["busy"]) for w in found["workers"]] == [("w", 4, 1)]
    assert found["circuits"] == []


def test_the_queue_shows_one_environment_and_how_full_its_agents_are(
    world: World, operator: Caller, platform: Caller
) -> None:
    operator("PATCH", "agents/own-agent", {"max_running": 1})
    assert len(json.loads(platform("GET", "queue").content)["environments"]) == 2
    found = json.loads(platform("GET", "queue", query={"environment": "own"}).content)
    assert [state["environment"] for state in found["environments"]] == ["own"]
    [agent] = found["agents"]
    assert (agent["agent"], agent["queued"], agent["running"]) == ("own-agent", 1, 0)
    assert (agent["max_running"], agent["concurrency_key"]) == (1, "")
    unknown = operator("GET", "queue", query={"environment": "other"})
    assert unknown.status_code == 422


def test_the_whole_queue_is_paused_and_resumed(world: World, platform: Caller) -> None:
    paused = json.loads(platform("POST", "queue/pause").content)
    assert (paused["paused"], paused["by"]) == (True, "platform-person/key")
    found = json.loads(platform("GET", "queue").content)
    assert found["switch"] == paused
    assert all(state["paused"] for state in found["environments"])
    own = json.loads(platform("GET", "environments/own").content)
    assert (own["paused"], own["starts_runs"]) == (False, False)
    resumed = json.loads(platform("POST", "queue/resume").content)
    assert resumed == {"paused": False, "by": "", "since": None}
    assert queue.claim("tests", 60) is not None


def test_the_queue_names_model_providers_that_are_down(world: World) -> None:
    factories.circuit("counted")
    down = factories.circuit("gemini", down=True)
    (circuit,) = json.loads(world.callers["viewer"]("GET", "queue").content)["circuits"]
    assert (circuit["provider"], circuit["failures"]) == ("gemini", 5)
    assert circuit["problem"] == down.problem
    assert circuit["retry_at"]
