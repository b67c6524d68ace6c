"""Tool servers over streamable HTTP and legacy SSE."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from tests.acceptance.runs.wrong_http import WrongServer
from tests.integration.toolservers.conftest import HttpServer, eventually, whoami
from toolservers.definition import ServerDefinition
from toolservers.errors import (
    ToolCallLost,
    ToolCallTimeout,
    ToolRefused,
    ToolServerError,
    ToolServerMisbehaved,
    ToolServerUnavailable,
)
from toolservers.hostile import digest
from toolservers.http_transport import MOST_REDIRECTS
from toolservers.pool import SessionPool

MakePool = Callable[..., SessionPool]


@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_tools_are_listed_and_called(
    pool: SessionPool, kind: str, request: pytest.FixtureRequest
) -> None:
    server: HttpServer = request.getfixturevalue(kind)
    definition = server.definition(headers={"Authorization": "Bearer one"})
    tools = {tool.name: tool for tool in await pool.list_tools(definition)}
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


Respond = Callable[[str, dict[str, str], bytes], Awaitable[tuple[int, dict[str, str], bytes]]]


@contextlib.asynccontextmanager
async def raw_http(respond: Respond) -> AsyncIterator[ServerDefinition]:
    """A server that answers HTTP requests by a function of method, headers and body."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            headers = {
                name.lower(): value
                for name, _, value in (line.partition(": ") for line in head[1:])
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            status, answer, content = await respond(head[0].split()[0], headers, body)
            answer = {"content-length": str(len(content)), "connection": "close", **answer}
            lines = [f"HTTP/1.1 {status} X", *(f"{k}: {v}" for k, v in answer.items()), "", ""]
            writer.write("\r\n".join(lines).encode() + content)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield ServerDefinition(
            server_id=1,
            environment_id=1,
            name="raw",
            transport="http",
            url=f"http://127.0.0.1:{port}/mcp",
            headers={"x-key": "k"},
            request_timeout=5,
        )
    finally:
        server.close()
        await server.wait_closed()


def answer(body: bytes, **members: object) -> tuple[int, dict[str, str], bytes]:
    message = {"jsonrpc": "2.0", "id": json.loads(body)["id"], **members}
    return 200, {"content-type": "application/json"}, json.dumps(message).encode()


INITIALIZED = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "old", "version": "1"},
}


class OldServer:
    """A server of the session era: refuses the new era's question, hands out session ids."""

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self.forgotten: set[str] = set()
        self.seen: list[tuple[str, str]] = []
        self.executed = 0
        self.cookies: list[str] = []

    async def __call__(
        self, method: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        session = headers.get("mcp-session-id", "")
        self.cookies.append(headers.get("cookie", ""))
        name = json.loads(body).get("method", "") if body else ""
        self.seen.append((method, name))
        if method != "POST":
            return 200, {}, b""
        if name == "initialize":
            self.sessions.append(f"s{len(self.sessions)}")
            status, said, content = answer(body, result=INITIALIZED)
            extra = {"mcp-session-id": self.sessions[-1], "set-cookie": "sticky=1"}
            return status, said | extra, content
        if not session:
            return 400, {"content-type": "text/plain"}, b"Missing session ID"
        if session in self.forgotten:
            return 404, {}, b""
        if "id" not in json.loads(body):
            return 202, {}, b""
        self.executed += 1
        return answer(body, result={"content": [{"type": "text", "text": session}]})


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


def calling(handler: Callable[[bytes], tuple[int, dict[str, str], bytes]]) -> Respond:
    """An old-era server whose ``tools/call`` is answered by ``handler``."""
    old = OldServer()

    async def respond(
        method: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if body and json.loads(body).get("method") == "tools/call":
            return handler(body)
        return await old(method, headers, body)

    return respond


JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}


@pytest.mark.parametrize(
    ("response", "error"),
    [
        ((502, {}, b"bad gateway"), ToolCallLost),
        ((200, JSON, b'{"half": '), ToolServerMisbehaved),
        ((200, JSON | {"content-length": "999"}, b'{"half": '), ToolCallLost),
        ((200, JSON, b"[" * 30_000_000), ToolServerMisbehaved),
        ((200, JSON | {"content-encoding": "gzip"}, b"x"), ToolServerMisbehaved),
        ((200, {"content-type": "text/html"}, b"<html>Log in</html>"), ToolServerMisbehaved),
        ((202, {}, b""), ToolServerMisbehaved),
        ((200, EVENTS | {"content-encoding": "gzip"}, b"x"), ToolServerMisbehaved),
        ((200, EVENTS, b"data: " + b"x" * 30_000_000), ToolServerMisbehaved),
        ((200, EVENTS, b": keep-alive\n" * 3_000_000), ToolServerMisbehaved),
        ((200, EVENTS, b": nothing\n\n"), ToolCallLost),
    ],
    ids=[
        "502",
        "no json",
        "cut off",
        "huge",
        "compressed",
        "html",
        "accepted",
        "compressed events",
        "huge event",
        "endless comments",
        "no event",
    ],
)
async def test_a_broken_answer_fails_its_own_call_and_no_other(
    pool: SessionPool, response: tuple[int, dict[str, str], bytes], error: type[ToolServerError]
) -> None:
    def handle(body: bytes) -> tuple[int, dict[str, str], bytes]:
        if json.loads(body)["params"]["name"] == "good":
            return answer(body, result={"content": [{"type": "text", "text": "fine"}]})
        return response

    async with raw_http(calling(handle)) as definition:
        await pool.call(definition, "good", {}, timeout=5, repeatable=False)
        broken, good = await asyncio.gather(
            pool.call(definition, "broken", {}, timeout=5, repeatable=False),
            pool.call(definition, "good", {}, timeout=5, repeatable=False),
            return_exceptions=True,
        )
        assert isinstance(broken, error), broken
        assert broken.outcome_unknown
        assert not isinstance(good, BaseException), good
        assert good.text == "fine"
        assert pool.states()[0].sessions == 1


@pytest.mark.parametrize(
    ("where", "times"),
    [("/mcp/", 1 + MOST_REDIRECTS), ("http://127.0.0.1:9/mcp", 1), ("http://[", 1)],
    ids=["in a circle", "elsewhere", "nowhere"],
)
async def test_a_redirect_that_leads_nowhere_is_a_refusal(
    pool: SessionPool, where: str, times: int
) -> None:
    asked: list[bytes] = []

    def redirect(body: bytes) -> tuple[int, dict[str, str], bytes]:
        asked.append(body)
        return 307, {"location": where}, b""

    async with raw_http(calling(redirect)) as definition:
        with pytest.raises(ToolRefused, match="HTTP 307") as caught:
            await pool.call(definition, "any", {}, timeout=5, repeatable=False)
    assert not caught.value.outcome_unknown
    assert len(asked) == times


async def test_a_redirect_within_the_server_is_followed(pool: SessionPool) -> None:
    """Frameworks send /mcp on to /mcp/, or the other way round."""
    kept: list[str] = []

    def handle(body: bytes) -> tuple[int, dict[str, str], bytes]:
        if not kept:
            kept.append(body.decode())
            return 307, {"location": "/mcp/"}, b""
        assert body.decode() == kept[0]
        return answer(body, result={"content": [{"type": "text", "text": "fine"}]})

    async with raw_http(calling(handle)) as definition:
        result = await pool.call(definition, "any", {}, timeout=5, repeatable=False)
    assert (result.text, len(kept)) == ("fine", 1)


async def test_a_stream_that_ends_before_the_answer_is_resumed(pool: SessionPool) -> None:
    resumed: list[str] = []
    old = OldServer()

    async def respond(
        method: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if method == "GET":
            resumed.append(headers["last-event-id"])
            result = {"content": [{"type": "text", "text": "at last"}]}
            message = json.dumps({"jsonrpc": "2.0", "id": 0, "result": result})
            return 200, EVENTS, f"data: {message}\n\n".encode()
        if body and json.loads(body).get("method") == "tools/call":
            return 200, EVENTS, b"id: e7\nretry: 10\ndata: \n\n"
        return await old(method, headers, body)

    async with raw_http(respond) as definition:
        result = await pool.call(definition, "any", {}, timeout=5, repeatable=False)
    assert result.text == "at last"
    assert resumed == ["e7"]


@pytest.mark.parametrize(
    "mode",
    [
        "hangs",
        "drips",
        "drips-an-event",
        "resumes",
        "resumes-in-a-million-years",
    ],
)
async def test_of_a_call_that_was_given_up_nothing_is_left(pool: SessionPool, mode: str) -> None:
    with WrongServer() as server:
        path = f"http/call/{mode}"
        definition = replace(HttpServer("http", None).definition(), url=server.url(path))  # type: ignore[arg-type]
        await pool.list_tools(definition)
        before = len(asyncio.all_tasks())
        with pytest.raises(ToolCallTimeout):
            await pool.call(definition, "note", {}, timeout=0.5, repeatable=False)
        await eventually(lambda: not +server.open and len(asyncio.all_tasks()) <= before)
        await pool.close()


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
