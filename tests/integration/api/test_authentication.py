"""How the API knows who asks."""

import json
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from station.accounts import services as accounts
from station.accounts.models import ApiKey
from station.core.principal import Role
from tests.integration.api.world import ROOT, Caller, World


def new_key(world: World, **limits: object) -> tuple[ApiKey, Caller]:
    row, text = accounts.create_api_key(ROOT, name="k", username="admin-person", **limits)  # type: ignore[arg-type]
    return row, Caller(text)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Bearer", "malformed_api_key"),
        ("Bearer stn_nonsense", "malformed_api_key"),
        ("bearer stn_nonsense", "malformed_api_key"),
        ("Basic YTpi", "unauthenticated"),
        ("", "unauthenticated"),
    ],
)
def test_a_wrong_credential_is_refused_with_a_challenge(
    world: World, header: str, code: str
) -> None:
    response = Caller()("GET", "runs", headers={"Authorization": header})
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert json.loads(response.content)["code"] == code


def test_a_revoked_key_stops_working_at_once(world: World) -> None:
    row, caller = new_key(world)
    assert caller("GET", "runs").status_code == 200
    assert world.callers["platform"]("DELETE", f"api-keys/{row.key_id}").status_code == 204
    response = caller("GET", "runs")
    assert response.status_code == 401
    assert json.loads(response.content)["code"] == "bad_api_key"


def test_an_expired_key_does_not_work(world: World) -> None:
    row, caller = new_key(world)
    ApiKey.objects.filter(pk=row.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert caller("GET", "runs").status_code == 401


def test_the_key_of_a_disabled_user_does_not_work(world: World) -> None:
    _, caller = new_key(world)
    row = world.users["admin"]
    row.is_active = False
    row.save()
    assert caller("GET", "runs").status_code == 401


def test_a_key_may_do_no_more_than_its_role(world: World) -> None:
    _, caller = new_key(world, role=Role.VIEWER)
    assert caller("GET", "agents/own-agent").status_code == 200
    assert caller("PATCH", "agents/own-agent", {"paused": True}).status_code == 403


def test_a_key_of_one_environment_sees_no_other(world: World) -> None:
    accounts.set_role(ROOT, username="admin-person", environment_id=world.other.pk, role=Role.ADMIN)
    _, caller = new_key(world, environment_ids=[world.other.pk])
    assert caller("GET", "agents/other-agent").status_code == 200
    assert caller("GET", "agents/own-agent").status_code == 404


def test_a_session_reads_and_changes_with_its_csrf_token(world: World) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.users["operator"])
    path = "/api/v1/agents/own-agent"
    body, kind = {"paused": True}, "application/json"
    assert client.get(path).status_code == 200
    refused = client.patch(path, body, content_type=kind)
    assert refused.status_code == 403
    assert refused["Content-Type"] == "application/problem+json"
    token = "t" * 32
    client.cookies["csrftoken"] = token
    accepted = client.patch(path, body, content_type=kind, headers={"X-CSRFToken": token})
    assert accepted.status_code == 200, accepted.content


def test_a_session_creates_a_key_and_a_key_does_not(world: World) -> None:
    client = Client()
    client.force_login(world.users["viewer"])
    body = {"name": "mine", "environments": ["own"], "role": "viewer"}
    response = client.post("/api/v1/api-keys", body, content_type="application/json")
    assert response.status_code == 201, response.content
    made = response.json()
    assert response["Location"] == f"/api/v1/api-keys/{made['key_id']}"
    caller = Caller(made["key"])
    assert caller("GET", "agents/own-agent").status_code == 200
    shown = caller("GET", f"api-keys/{made['key_id']}")
    assert "key" not in json.loads(shown.content)
    assert caller("POST", "api-keys", body).status_code == 403
