"""Tool servers over streamable HTTP and legacy SSE."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Callable

import pytest

from tests.integration.toolservers.conftest import HttpServer, eventually, whoami
from tests.integration.toolservers.raw_http import (
    Answer,
    OldServer,
    answer,
    black_hole,
    calling,
    raw_http,
)
from toolservers.definition import ServerDefinition
from toolservers.errors import (
    ToolCallLost,
    ToolCallTimeout,
    ToolServerError,
    ToolServerUnavailable,
)
from toolservers.hostile import digest
from toolservers.http_connections import CONNECT_TIMEOUT
from toolservers.pool import SessionPool

MakePool = Callable[..., SessionPool]


@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_tools_are_listed_and_called(
    pool: SessionPool, kind: str, request: pytest.FixtureRequest
) -> None:
    server: HttpServer = request.getfixturevalue(kind)
    definition = server.definition(headers={"Authorization": "Bearer one"})
    tools = {tool.name: tool for tool in (await pool.list_tools(definition)).tools}
    assert tools["append_line"].annotations["readOnlyHint"] is False
    result = await pool.call(definition, "append_line", {"text": "x"}, timeout=9, repeatable=False)
    assert result.text == "appended x"
    assert server.sink.lines == ["x"]
    report = await pool.probe(definition)
    assert report.server_name == "station-hostile"


@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_headers_of_one_definition_do_not_reach_another(
    pool: SessionPool, kind: str, request: pytest.FixtureRequest
) -> None:
    server: HttpServer = request.getfixturevalue(kind)
    definitions = [
        server.definition(environment_id=n, headers={"Authorization": f"Bearer {n}"} if n else {})
        for n in (1, 2, 0)
    ]
    told = await asyncio.gather(*(whoami(pool, definition) for definition in definitions * 2))
    assert [each["authorization_sha256"] for each in told] == [
        digest("Bearer 1"),
        digest("Bearer 2"),
        digest(""),
    ] * 2


async def test_many_calls_share_one_session(pool: SessionPool, http: HttpServer) -> None:
    definition = http.definition()
    started = time.monotonic()
    results = await asyncio.gather(
        *(
            pool.call(definition, "sleep", {"seconds": 1}, timeout=20, repeatable=False)
            for _ in range(100)
        )
    )
    assert {result.text for result in results} == {"slept 1 s"}
    assert time.monotonic() - started < 15
    assert pool.states()[0].sessions == 1


async def test_a_time_out_cancels_the_call_on_the_server_and_spares_the_others(
    pool: SessionPool, http: HttpServer
) -> None:
    definition = http.definition()
    other = asyncio.create_task(
        pool.call(definition, "sleep", {"seconds": 2}, timeout=10, repeatable=False)
    )
    with pytest.raises(ToolCallTimeout) as caught:
        await pool.call(definition, "sleep", {"seconds": 60}, timeout=0.5, repeatable=True)
    assert caught.value.outcome_unknown
    await http.sink.line("cancelled")
    assert (await other).text == "slept 2 s"


@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_cancelling_a_call_tells_the_server(
    pool: SessionPool, kind: str, request: pytest.FixtureRequest
) -> None:
    server: HttpServer = request.getfixturevalue(kind)
    definition = server.definition()
    task = asyncio.create_task(
        pool.call(definition, "sleep", {"seconds": 60}, timeout=90, repeatable=True)
    )
    await eventually(lambda: bool(pool.states()) and pool.states()[0].up)
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.sink.line("cancelled")
    assert (await whoami(pool, definition))["pid"]


@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_a_call_lost_with_its_server_is_not_repeated_if_it_has_effects(
    pool: SessionPool, kind: str, request: pytest.FixtureRequest
) -> None:
    server: HttpServer = request.getfixturevalue(kind)
    call = {"text": "x", "then": "crash"}
    with pytest.raises(ToolCallLost) as caught:
        await pool.call(server.definition(), "append_then", call, timeout=9, repeatable=False)
    assert caught.value.outcome_unknown
    assert server.sink.lines == ["x"]


@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_a_restarted_server_is_used_again(
    pool: SessionPool, kind: str, request: pytest.FixtureRequest
) -> None:
    server: HttpServer = request.getfixturevalue(kind)
    before = await whoami(pool, server.definition())
    server.stop()
    # Legacy SSE holds a connection, whose end is noticed.
    await eventually(lambda: kind == "http" or pool.states()[0].sessions == 0)
    with pytest.raises(ToolServerUnavailable) as caught:
        await pool.call(
            server.definition(), "append_line", {"text": "x"}, timeout=9, repeatable=False
        )
    assert not caught.value.permanent
    assert not pool.states()[0].up
    server.start()
    assert (await whoami(pool, server.definition()))["pid"] != before["pid"]
    assert pool.states()[0].up


async def test_a_server_of_the_old_era_works_and_its_session_is_ended(
    make_pool: MakePool,
) -> None:
    pool, old = make_pool(), OldServer()
    async with raw_http(old) as definition:
        result = await pool.call(definition, "any", {}, timeout=5, repeatable=False)
        assert result.text == "s0"
        await pool.close()
    assert ("DELETE", "") in old.seen
    assert all(method != "GET" for method, _ in old.seen)


async def test_a_session_the_server_forgot_is_renewed_and_the_call_sent_once_more(
    pool: SessionPool,
) -> None:
    old = OldServer()
    async with raw_http(old) as definition:
        await pool.call(definition, "any", {}, timeout=5, repeatable=False)
        old.forgotten.add("s0")
        result = await pool.call(definition, "any", {}, timeout=5, repeatable=False)
        assert result.text == "s1"
        assert old.executed == 2


async def test_cookies_stay_within_their_session(pool: SessionPool) -> None:
    old = OldServer()
    async with raw_http(old) as definition:
        await pool.call(definition, "any", {}, timeout=5, repeatable=False)
        assert old.cookies[-1] == "sticky=1"
        seen = len(old.cookies)
        with contextlib.suppress(ToolServerError):
            await pool.probe(definition)
        assert old.cookies[seen] == ""


@pytest.mark.parametrize(
    ("status", "error", "permanent", "unknown"),
    [
        (401, ToolServerUnavailable, True, False),
        (403, ToolServerUnavailable, True, False),
        (503, ToolServerUnavailable, False, False),
    ],
)
async def test_a_server_that_turns_station_away_is_unavailable(
    pool: SessionPool,
    status: int,
    error: type[ToolServerError],
    permanent: bool,
    unknown: bool,
) -> None:
    async def refuse(
        method: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        return status, {"content-type": "text/html"}, b"<html>no</html>"

    async with raw_http(refuse) as definition:
        with pytest.raises(error, match=f"HTTP {status}") as caught:
            await pool.list_tools(definition)
    assert caught.value.permanent is permanent
    assert caught.value.outcome_unknown is unknown


async def test_an_answer_that_does_not_match_the_tools_own_schema_is_still_an_answer(
    pool: SessionPool,
) -> None:
    def handle(body: bytes) -> tuple[int, dict[str, str], bytes]:
        content = [{"type": "text", "text": "fine"}]
        return answer(body, result={"content": content, "structuredContent": {"n": "no number"}})

    async with raw_http(calling(handle)) as definition:
        result = await pool.call(definition, "typed", {}, timeout=5, repeatable=False)
    assert result.structured == {"n": "no number"}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"url": "ftp://example.test/"}, "must begin with http"),
        ({"url": "http://"}, "must begin with http"),
        ({"headers": {"x": "line\nbreak"}}, "cannot be sent"),
        ({"headers": {"x": "é"}}, "cannot be sent"),
    ],
)
async def test_what_cannot_be_sent_is_a_permanent_failure(
    pool: SessionPool, fields: dict[str, object], problem: str
) -> None:
    definition = HttpServer("http", None, port=9)  # type: ignore[arg-type]
    with pytest.raises(ToolServerUnavailable, match=problem) as caught:
        await pool.list_tools(definition.definition(**fields))
    assert caught.value.permanent


@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_a_host_that_drops_packets_is_given_up_before_the_request_time_out(
    make_pool: MakePool, kind: str
) -> None:
    pool = make_pool(max_retries=0)
    with black_hole() as port:
        server = HttpServer(kind, None, port=port)  # type: ignore[arg-type]
        started = time.monotonic()
        with pytest.raises(ToolServerUnavailable, match="no connection in time"):
            await pool.list_tools(server.definition(request_timeout=60))
    assert time.monotonic() - started < CONNECT_TIMEOUT + 3


async def test_a_try_that_was_cut_short_does_not_hide_why_the_one_before_failed(
    pool: SessionPool,
) -> None:
    asked = 0

    async def respond(method: str, headers: dict[str, str], body: bytes) -> Answer:
        nonlocal asked
        asked += 1
        if asked > 2:  # both questions of the first handshake
            await asyncio.sleep(2)
        return 503, {}, b""

    async with raw_http(respond) as definition:
        with pytest.raises(ToolServerUnavailable, match="HTTP 503"):
            await pool.list_tools(dataclasses.replace(definition, request_timeout=1))
        await asyncio.sleep(1.5)
    assert asked > 2


async def test_errors_do_not_quote_the_url(pool: SessionPool) -> None:
    definition = ServerDefinition(
        server_id=1,
        environment_id=1,
        name="gone",
        transport="sse",
        url="http://127.0.0.1:9/sse?key=s3cret",
        request_timeout=2,
    )
    with pytest.raises(ToolServerUnavailable) as caught:
        await pool.list_tools(definition)
    assert "s3cret" not in str(caught.value)
