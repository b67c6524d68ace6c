"""What a running web process answers."""

import json
import socket

import psutil
import pytest

from tests.integration.web.serving import Web

pytestmark = pytest.mark.django_db  # pytest-django makes only databases that tests name

JSON = {"Content-Type": "application/json"}


def test_health_answers_any_host_and_carries_a_request_id(served: Web) -> None:
    answer = served.client.get("/health", headers={"Host": "who.knows.example"})
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert len(answer.headers["x-request-id"]) == 36


def test_ready_names_every_check(served: Web) -> None:
    answer = served.client.get("/ready")
    assert answer.json()["checks"] == {
        "database": "ok",
        "migrations": "ok",
        "redis": "ok",
        "model": "ai.model is not set; agents that name no model cannot run",
        "draining": "ok",
    }
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


def test_metrics_has_every_name_from_the_start(served: Web) -> None:
    text = served.client.get("/metrics").text
    for line in (
        'station_errors_total{component="web"} 0.0',
        'station_errors_total{component="keeper"} 0.0',
        "station_database_connections_failed_total 0.0",
        'station_database_connections{state="max"}',
        "station_user_session_duration_seconds_count 0.0",
        "station_http_request_duration_seconds_bucket",
        'station_http_requests_total{code="500",method="GET",route="unmatched"} 0.0',
    ):
        assert line in text


def test_requests_are_counted_by_route_and_never_by_path(served: Web) -> None:
    for path in ("/api/v1/nothing-4711", "/admin/login/?next=4711", "/static/4711.css"):
        served.client.get(path)
    text = served.client.get("/metrics").text
    assert "4711" not in text
    assert 'route="/admin/login/"' in text
    assert 'route="/static/"' in text


def test_a_sane_request_id_is_kept_and_another_is_replaced(served: Web) -> None:
    for path in ("/admin/login/", "/health", "/api/v1/runs/1/stream"):
        kept = served.client.get(path, headers={"X-Request-ID": "caller-0001"})
        assert kept.headers["x-request-id"] == "caller-0001"
        replaced = served.client.get(path, headers={"X-Request-ID": "a b <script>"})
        assert len(replaced.headers["x-request-id"]) == 36


def test_the_log_names_the_request_without_its_query(served: Web) -> None:
    served.client.get("/admin/login/?token=canary-in-query", headers={"X-Request-ID": "log-0001"})
    record = next(
        r for r in served.records if (r.get("request_id"), r["event"]) == ("log-0001", "request")
    )
    assert (record["method"], record["route"], record["status"]) == ("GET", "/admin/login/", 200)
    assert not any("canary-in-query" in line for line in served.lines)


def test_every_log_line_is_json_with_the_same_first_fields(served: Web) -> None:
    assert served.records
    for record in served.records:
        assert list(record)[:4] == ["timestamp", "level", "logger", "event"]


def test_the_admins_style_sheet_comes_without_collectstatic(served: Web) -> None:
    answer = served.client.get("/static/admin/css/base.css")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/css")


def test_the_root_leads_to_the_admin(served: Web) -> None:
    assert served.client.get("/").headers["location"] == "/admin/"


def test_a_stranger_gets_a_401_that_says_how_to_authenticate(served: Web) -> None:
    answer = served.client.get("/api/v1/agents")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unauthenticated"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_an_unknown_path_of_the_api_is_a_problem_and_elsewhere_a_page(served: Web) -> None:
    answer = served.client.get("/api/v1/no/such/thing")
    assert (answer.status_code, answer.json()["code"]) == (404, "no_such_path")
    assert served.client.get("/nowhere").headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("announced", [True, False])
def test_ten_megabytes_are_refused_with_a_413_that_can_be_read(
    served: Web, announced: bool
) -> None:
    body = b'{"name": "' + b"x" * 10_000_000 + b'"}'
    content = body if announced else iter([body[:5_000_000], body[5_000_000:]])
    answer = served.client.post("/api/v1/environments", content=content, headers=JSON)
    assert answer.status_code == 413
    assert answer.json()["code"] == "input_too_large"
    assert answer.json()["errors"][0]["field"] == "body"
    assert "1048576" in answer.json()["detail"]
    assert len(answer.headers["x-request-id"]) == 36


def test_a_gigabyte_that_is_only_announced_is_refused_without_reading_it(served: Web) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as raw:
        raw.sendall(
            b"POST /api/v1/environments HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n"
        )
        assert raw.recv(65536).startswith(b"HTTP/1.1 413")


def test_a_path_that_is_no_text_does_no_harm(served: Web) -> None:
    assert served.client.get("/api/v1/%ff%00").status_code in (400, 404)
    assert served.client.get("/api/v1/agents?x=%ff").status_code in (401, 422)


def test_the_probes_take_only_get_and_head(served: Web) -> None:
    assert served.client.post("/health").status_code == 405
    head = served.client.head("/metrics")
    assert (head.status_code, head.content) == (200, b"")


def test_the_processes_are_called_station(served: Web) -> None:
    master = psutil.Process(served.process.pid)
    titles = [" ".join(p.cmdline()).strip() for p in (master, *master.children())]
    assert titles == ["station web", "station web: worker"]


def test_the_api_describes_itself(served: Web) -> None:
    document = served.client.get("/api/v1/openapi.json")
    assert document.json()["openapi"].startswith("3.1")
    again = served.client.get(
        "/api/v1/openapi.json", headers={"If-None-Match": document.headers["etag"]}
    )
    assert again.status_code == 304
    resources = served.client.get("/api/v1/").json()["resources"]
    assert resources["agents"] == "/api/v1/agents"


def test_the_page_of_the_api_needs_no_other_host(served: Web) -> None:
    page = served.client.get("/api/v1/docs")
    assert "//" not in page.text.split("<script>")[0].replace("<!doctype", "")
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]


def test_every_operation_documents_problems(served: Web) -> None:
    document = json.loads(served.client.get("/api/v1/openapi.json").text)
    for item in document["paths"].values():
        for method, operation in item.items():
            if method in ("get", "post", "put", "patch", "delete"):
                assert "application/problem+json" in operation["responses"]["default"]["content"]
    assert set(document["components"]["securitySchemes"]) == {"api_key", "session"}
