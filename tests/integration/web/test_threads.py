"""Django behind ASGI: bounded threads, bounded bodies, released connections."""

import asyncio
import threading
import types
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from station.rest import threads
from station.rest.front import Front
from station.rest.threads import ThreadedDjango


class _Gate:
    """A view that counts who is inside and lets nobody out until told."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.lock, self.open = threading.Lock(), threading.Event()

    def view(self, _request: HttpRequest) -> HttpResponse:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.open.wait(20)
        with self.lock:
            self.inside -= 1
        return HttpResponse("through")


@csrf_exempt
def _echo(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.body)


def _pieces(_request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(b"x" * 1000 for _ in range(2000))


def _breaks(_request: HttpRequest) -> HttpResponse:
    raise RuntimeError("canary")


@pytest.fixture
def gate(settings: Any) -> _Gate:
    gate = _Gate()
    urls = types.ModuleType("urls_of_this_test")
    urls.urlpatterns = [  # type: ignore[attr-defined]
        path("api/gate", gate.view),
        path("api/echo", _echo),
        path("api/pieces", _pieces),
        path("api/breaks", _breaks),
    ]
    urls.handler500 = "station.rest.problems.server_error"  # type: ignore[attr-defined]
    settings.ROOT_URLCONF = urls
    return gate


async def _no_streams(_scope: Any, _receive: Any, _send: Any) -> None:
    raise RuntimeError("canary")


@pytest.fixture
async def client(gate: _Gate) -> AsyncIterator[httpx.AsyncClient]:
    front: Any = Front(site=ThreadedDjango(threads=3, max_body=2000), streams=_no_streams)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(front), base_url="http://station"
    ) as asking:
        yield asking


async def _until(holds: Any) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


async def test_no_more_threads_are_in_django_than_allowed(
    gate: _Gate, client: httpx.AsyncClient
) -> None:
    asked = [asyncio.create_task(client.get("/api/gate")) for _ in range(20)]
    await _until(lambda: gate.inside == 3)
    assert (await client.get("/health")).status_code == 200  # needs no thread
    gate.open.set()
    answers = await asyncio.gather(*asked)
    assert {answer.text for answer in answers} == {"through"}
    assert gate.most == 3


async def test_who_waits_too_long_for_a_thread_is_told_to_come_back(
    gate: _Gate, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "QUEUE_SECONDS", 0.05)
    asked = [asyncio.create_task(client.get("/api/gate")) for _ in range(3)]
    await _until(lambda: gate.inside == 3)
    refused = await client.get("/api/gate")
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert refused.headers["retry-after"] == "2"
    gate.open.set()
    await asyncio.gather(*asked)
    assert (await client.get("/api/gate")).status_code == 200


async def test_a_client_that_goes_frees_its_place_when_the_thread_ends(
    gate: _Gate, client: httpx.AsyncClient
) -> None:
    asked = [asyncio.create_task(client.get("/api/gate")) for _ in range(3)]
    await _until(lambda: gate.inside == 3)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    assert gate.inside == 3
    gate.open.set()
    assert (await client.get("/api/gate")).text == "through"
    assert gate.most == 3


async def test_a_body_arrives_whole_up_to_the_limit(client: httpx.AsyncClient) -> None:
    body = bytes(range(250)) * 8
    assert (await client.post("/api/echo", content=body)).content == body
    over = await client.post("/api/echo", content=body + b"x")
    assert (over.status_code, over.json()["code"]) == (413, "input_too_large")


async def test_a_body_that_does_not_arrive_is_given_up(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "BODY_SECONDS", 0.05)

    async def never() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(30)

    answer = await client.post("/api/echo", content=never())
    assert (answer.status_code, answer.json()["code"]) == (408, "body_too_slow")


async def test_a_long_answer_comes_in_parts(client: httpx.AsyncClient) -> None:
    assert len((await client.get("/api/pieces")).content) == 2_000_000


async def test_a_bug_in_a_view_or_a_stream_is_a_problem_with_a_reference(
    client: httpx.AsyncClient,
) -> None:
    for where in ("/api/breaks", "/api/v1/runs/1/stream"):
        answer = await client.get(where)
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert "canary" not in answer.text


@pytest.mark.django_db(transaction=True)
async def test_an_answered_request_holds_no_connection(settings: Any) -> None:
    urls = types.ModuleType("urls_of_this_test")

    def asks(_request: HttpRequest) -> HttpResponse:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return HttpResponse("asked")

    urls.urlpatterns = [path("api/asks", asks)]  # type: ignore[attr-defined]
    settings.ROOT_URLCONF = urls
    front: Any = Front(site=ThreadedDjango(threads=5, max_body=10), streams=_no_streams)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(front), base_url="http://station"
    ) as client:
        await asyncio.gather(*(client.get("/api/asks") for _ in range(40)))
    stats = connection.pool.get_stats()  # type: ignore[attr-defined]
    assert stats["pool_size"] - stats["pool_available"] <= 1  # the one of this test itself
