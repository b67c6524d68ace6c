"""What stands before the protocol: health, keys, hosts, origins."""

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest

from mcpgw import http
from station.accounts import services
from station.accounts.models import User
from station.config import current
from tests.factories import OPERATOR
from tests.integration.mcpgw.client import DEADLINE
from tests.integration.mcpgw.conftest import Running, Tenant

LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


def post(gateway: Running, key: str | None, body: Any = LIST, **headers: str) -> httpx.Response:
    given = {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": "2025-06-18",
        **headers,
    }
    if key is not None:
        given["Authorization"] = f"Bearer {key}"
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(f"{gateway.url}/mcp", content=content, headers=given, timeout=DEADLINE)


def test_health_needs_no_key(gateway: Running) -> None:
    answer = httpx.get(f"{gateway.url}/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_a_request_with_a_key_is_answered(gateway: Running, alice: Tenant) -> None:
    answer = post(gateway, alice.key)
    assert answer.status_code == 200
    assert "list_agents" in answer.text


@pytest.mark.parametrize("kind", ["none", "junk", "unknown", "revoked", "disabled", "truncated"])
def test_without_a_valid_key_the_answer_is_always_the_same(
    gateway: Running, alice: Tenant, kind: str
) -> None:
    key: str | None = alice.key
    match kind:
        case "none":
            key = None
        case "junk":
            key = "junk"
        case "unknown":
            other, key = services.create_api_key(OPERATOR, name="x", username="alice")
            other.delete()
        case "revoked":
            services.revoke_api_key(OPERATOR, key_id=alice.key[4:16])
        case "disabled":
            User.objects.filter(pk=alice.user.pk).update(is_active=False)
        case "truncated":
            key = alice.key[:-3]
    answer = post(gateway, key)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="station"'
    assert answer.json()["detail"] == "This needs a valid Station API key."


def test_a_key_revoked_between_two_requests_ends_at_once(gateway: Running, alice: Tenant) -> None:
    assert post(gateway, alice.key).status_code == 200
    services.revoke_api_key(OPERATOR, key_id=alice.key[4:16])
    assert post(gateway, alice.key).status_code == 401


def test_there_are_no_sessions(gateway: Running, alice: Tenant) -> None:
    initialize = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    assert "mcp-session-id" not in post(gateway, alice.key, initialize).headers
    given = {"Authorization": f"Bearer {alice.key}", "Accept": "text/event-stream"}
    answer = httpx.get(f"{gateway.url}/mcp", headers=given)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_foreign_origin_is_refused_and_the_own_is_not(gateway: Running, alice: Tenant) -> None:
    assert post(gateway, alice.key, Origin="https://evil.example").status_code == 403
    assert post(gateway, alice.key, Origin="null").status_code == 403
    assert post(gateway, alice.key, Origin="http://[").status_code == 403
    assert post(gateway, alice.key, Origin=gateway.url).status_code == 200


def test_only_allowed_hosts_are_answered_to(alice: Tenant) -> None:
    config = current()
    api = config.api.model_copy(update={"allowed_hosts": ("station.example",)})
    narrowed = config.model_copy(update={"api": api})
    listener = http.listen("127.0.0.1", 0)
    stop = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(http.serve_on(listener, narrowed, stop)))
    thread.start()
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        gateway = Running(url=url, stop=stop, thread=thread)
        assert post(gateway, alice.key).status_code == 421
        assert post(gateway, alice.key, Host="station.example:3000").status_code == 200
        assert httpx.get(f"{url}/health").status_code == 200
    finally:
        stop.set()
        thread.join(DEADLINE)
        listener.close()


def test_a_body_that_is_too_large_is_refused(gateway: Running, alice: Tenant) -> None:
    body = json.dumps(LIST | {"params": {"x": "y" * (current().api.max_body + 1)}}).encode()
    assert post(gateway, alice.key, body).status_code == 413


@pytest.mark.parametrize("body", [b"", b"junk", b"[]", b'{"jsonrpc":"2.0"}', b"\xff\xfe"])
def test_what_is_no_message_is_refused(gateway: Running, alice: Tenant, body: bytes) -> None:
    assert post(gateway, alice.key, body).status_code == 400


def test_other_paths_are_not_found(gateway: Running) -> None:
    assert httpx.get(f"{gateway.url}/").status_code == 404
