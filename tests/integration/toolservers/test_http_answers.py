"""Answers over HTTP that are broken, redirect, end early or come for nobody."""

import asyncio
import json
from dataclasses import replace

import pytest

from tests.acceptance.runs.wrong_http import WrongServer
from tests.integration.toolservers.conftest import HttpServer, eventually
from tests.integration.toolservers.raw_http import (
    INITIALIZED,
    Answer,
    OldServer,
    answer,
    calling,
    raw_http,
)
from toolservers.errors import (
    ToolCallLost,
    ToolCallTimeout,
    ToolRefused,
    ToolServerError,
    ToolServerMisbehaved,
)
from toolservers.http_connections import MOST_REDIRECTS
from toolservers.pool import SessionPool

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


@pytest.mark.parametrize("over", ["http", "sse"])
async def test_half_a_character_spoils_no_answer(pool: SessionPool, over: str) -> None:
    with WrongServer() as server:
        url = server.url(f"{over}/call/halves")
        definition = replace(HttpServer(over, None).definition(), url=url)  # type: ignore[arg-type]
        (tool,) = (await pool.list_tools(definition)).tools
        result = await pool.call(definition, "good", {}, timeout=5, repeatable=False)
    assert tool.description == "cut \N{REPLACEMENT CHARACTER}"
    assert result.text == "cut \N{REPLACEMENT CHARACTER}"


async def test_half_a_character_in_an_event_spoils_no_answer(pool: SessionPool) -> None:
    def handle(body: bytes) -> Answer:
        status, _, content = answer(body, result={"content": [{"type": "text", "text": "\ud83d"}]})
        return status, EVENTS, b"data: " + content + b"\n\n"

    async with raw_http(calling(handle)) as definition:
        result = await pool.call(definition, "any", {}, timeout=5, repeatable=False)
    assert result.text == "\N{REPLACEMENT CHARACTER}"


async def test_what_is_said_of_a_broken_handshake_can_be_stored(pool: SessionPool) -> None:
    async def respond(method: str, headers: dict[str, str], body: bytes) -> Answer:
        if json.loads(body or b"{}").get("method") != "initialize":
            return 400, {}, b""
        odd = {"experimental": {"nul\0": 7, "x" * 10_000: 7}}
        return answer(body, result=INITIALIZED | {"capabilities": odd})

    async with raw_http(respond) as definition:
        with pytest.raises(ToolServerMisbehaved, match="experimental") as caught:
            await pool.list_tools(definition)
    assert "\0" not in caught.value.message
    assert len(caught.value.message) < 1_000


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
