"""What became of a call that got no answer over HTTP: not sent, turned away, or in doubt.

One test for each row of the table in docs/guarantees.md.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field, replace

import httpx2
import pytest

from tests.integration.toolservers.raw_http import (
    Answer,
    Ending,
    Handler,
    OldServer,
    answer,
    black_hole,
    calling,
    raw_http,
)
from toolservers.definition import ToolList
from toolservers.errors import (
    SessionGone,
    ToolCallLost,
    ToolRefused,
    ToolServerError,
    ToolServerMisbehaved,
    TurnedAway,
)
from toolservers.fates import Fate
from toolservers.http_transport import CallTransport
from toolservers.pool import SessionPool

SENDS = 3
"""The first, and the repetitions that the pool of these tests allows."""
HTML = {"content-type": "text/html"}
JSON = {"content-type": "application/json"}
FINE = {"content": [{"type": "text", "text": "fine"}]}


def says(status: int, said: dict[str, str] = HTML, content: bytes = b"<html>no</html>") -> Handler:
    return lambda body: (status, said, content)


def errs(status: int, code: int, *, echo: bool = True) -> Handler:
    """A JSON-RPC error, of the very request or of none in particular."""

    def handle(body: bytes) -> Answer:
        number = json.loads(body)["id"] if echo else None
        error = {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": "no"}}
        return status, JSON, json.dumps(error).encode()

    return handle


def with_words(status: int, words: object) -> Handler:
    return says(status, JSON, json.dumps(words).encode())


CAUSES: dict[str, tuple[Handler, type[ToolServerError], bool, int, int]] = {
    # what happens: (how, error, in doubt, sends of a call with effects, of a repeatable one)
    "500": (says(500), ToolCallLost, True, 1, SENDS),
    "502": (says(502), ToolCallLost, True, 1, SENDS),
    "503": (says(503), ToolCallLost, True, 1, SENDS),
    "504": (says(504), ToolCallLost, True, 1, SENDS),
    "529": (says(529), ToolCallLost, True, 1, SENDS),
    "408": (says(408), ToolCallLost, True, 1, SENDS),
    "503 in the words of an API": (
        with_words(503, {"error": {"code": 503, "status": "UNAVAILABLE", "message": "reset"}}),
        ToolCallLost, True, 1, SENDS,
    ),
    "500 with an error that is no answer": (
        errs(500, -32603, echo=False), ToolCallLost, True, 1, SENDS
    ),
    "500 with an error that answers": (errs(500, -32603), ToolRefused, False, 1, 1),
    "429": (says(429), TurnedAway, False, 1, SENDS),
    "401": (says(401), ToolRefused, False, 1, 1),
    "403": (says(403), ToolRefused, False, 1, 1),
    "413": (says(413), ToolRefused, False, 1, 1),
    "400 in the words of an API": (
        with_words(400, {"error": {"message": "bad"}}), ToolRefused, False, 1, 1
    ),
    "400 with an error": (errs(400, -32602, echo=False), ToolRefused, False, 1, 1),
    "404 of a session": (says(404), SessionGone, False, SENDS, SENDS),
    "200 with a page": (says(200), ToolServerMisbehaved, True, 1, 1),
    "202": (says(202), ToolServerMisbehaved, True, 1, 1),
    "200 and half an answer": (
        says(200, JSON | {"content-length": "99"}, b"{"), ToolCallLost, True, 1, SENDS
    ),
    "hangs up": (lambda _: Ending.CLOSED, ToolCallLost, True, 1, SENDS),
    "resets": (lambda _: Ending.RESET, ToolCallLost, True, 1, SENDS),
    "claims that nothing was sent": (errs(200, -39001), ToolRefused, False, 1, 1),
    "claims that the session is gone": (errs(200, -39003), ToolRefused, False, 1, 1),
    "claims that headers are missing": (errs(400, -32020), ToolRefused, False, 1, 1),
}  # fmt: skip


@pytest.mark.parametrize("repeatable", [False, True], ids=["effects", "repeatable"])
@pytest.mark.parametrize("cause", CAUSES)
async def test_a_call_is_sent_again_only_where_nothing_happened_or_nothing_can(
    pool: SessionPool, cause: str, repeatable: bool
) -> None:
    handle, error, in_doubt, with_effects, harmless = CAUSES[cause]
    sent: list[bytes] = []

    def count(body: bytes) -> Answer | Ending:
        sent.append(body)
        return handle(body)

    async with raw_http(calling(count)) as definition:
        with pytest.raises(error) as caught:
            await pool.call(definition, "any", {}, timeout=5, repeatable=repeatable)
    assert caught.value.outcome_unknown is in_doubt
    assert len(sent) == (harmless if repeatable else with_effects)


@dataclass
class Deaf:
    """A server that stops reading. ``times`` counts its connections, or requests, since then."""

    silent: bool = False
    times: int = 0
    calls: list[bytes] = field(default_factory=list)

    def reads(self) -> bool:
        self.times += self.silent
        return not self.silent

    def handle(self, body: bytes) -> Answer:
        self.calls.append(body)
        return answer(body, result=FINE)


async def test_a_connection_reset_before_anything_was_read_leaves_a_call_in_doubt(
    pool: SessionPool,
) -> None:
    """Station cannot tell: what it wrote may have been read."""
    server = Deaf()
    async with raw_http(calling(server.handle), reads=server.reads) as definition:
        await pool.call(definition, "any", {}, timeout=5, repeatable=False)
        server.silent = True
        with pytest.raises(ToolCallLost) as caught:
            await pool.call(definition, "any", {}, timeout=5, repeatable=False)
    assert caught.value.outcome_unknown
    assert server.times == 1


async def test_a_kept_connection_closed_during_the_request_leaves_a_call_in_doubt(
    pool: SessionPool,
) -> None:
    server = Deaf()
    respond = calling(server.handle)
    async with raw_http(respond, keeps_open=True, reads=server.reads) as definition:
        await pool.call(definition, "any", {}, timeout=5, repeatable=False)
        server.silent = True
        large = {"text": "x" * 2_000_000}
        with pytest.raises(ToolCallLost) as caught:
            await pool.call(definition, "any", large, timeout=5, repeatable=False)
    assert caught.value.outcome_unknown
    assert server.times == 1


async def test_a_kept_connection_closed_while_idle_is_not_written_to(pool: SessionPool) -> None:
    server = Deaf()

    def handle(body: bytes) -> Answer:
        status, said, content = server.handle(body)
        return status, said | {"connection": "keep-alive"}, content  # and hangs up without a word

    async with raw_http(calling(handle)) as definition:
        for _ in range(3):
            await pool.call(definition, "any", {}, timeout=5, repeatable=False)
            await asyncio.sleep(0.05)
    assert len(server.calls) == 3


async def test_a_call_that_cannot_connect_was_not_sent(pool: SessionPool) -> None:
    async with raw_http(OldServer()) as definition:
        await pool.call(definition, "any", {}, timeout=5, repeatable=False)
    with pytest.raises(SessionGone, match="cannot connect") as caught:
        await pool.call(definition, "any", {}, timeout=5, repeatable=False)
    assert not caught.value.outcome_unknown


async def test_a_call_whose_tls_does_not_come_about_was_not_sent() -> None:
    call = b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}'
    transport = CallTransport(body_limit=1_000)
    async with raw_http(OldServer(), reads=lambda: False) as definition:
        url = definition.url.replace("http:", "https:")
        response = await transport.handle_async_request(httpx2.Request("POST", url, content=call))
    await transport.aclose()
    assert response.json()["error"]["data"]["fate"] == Fate.NOT_SENT


async def test_a_call_to_a_host_that_drops_packets_was_not_sent(pool: SessionPool) -> None:
    async with raw_http(OldServer()) as made:
        definition = replace(made, request_timeout=0.5)
        await pool.call(definition, "any", {}, timeout=5, repeatable=False)
    with black_hole(int(definition.where.rpartition(":")[2])):
        started = time.monotonic()
        with pytest.raises(SessionGone, match="cannot connect") as caught:
            await pool.call(definition, "any", {}, timeout=20, repeatable=False)
    assert not caught.value.outcome_unknown
    assert time.monotonic() - started < 5


async def test_the_pause_a_server_asks_for_is_kept(pool: SessionPool) -> None:
    at: list[float] = []

    def handle(body: bytes) -> Answer:
        at.append(time.monotonic())
        if len(at) == 1:
            return 429, HTML | {"retry-after": "1"}, b""
        return answer(body, result=FINE)

    async with raw_http(calling(handle)) as definition:
        result = await pool.call(definition, "any", {}, timeout=5, repeatable=True)
    assert result.text == "fine"
    assert at[1] - at[0] >= 1


@pytest.mark.parametrize("status", [429, 503])
async def test_a_pause_beyond_the_deadline_is_not_waited_for(
    pool: SessionPool, status: int
) -> None:
    started = time.monotonic()
    handle = says(status, HTML | {"retry-after": "9" * 400})
    async with raw_http(calling(handle)) as definition:
        with pytest.raises((TurnedAway, ToolCallLost), match=f"HTTP {status}"):
            await pool.call(definition, "any", {}, timeout=5, repeatable=True)
    assert time.monotonic() - started < 3


async def test_a_server_that_is_asked_too_often_is_asked_for_its_tools_again(
    pool: SessionPool,
) -> None:
    old, asked = OldServer(), 0

    async def respond(method: str, headers: dict[str, str], body: bytes) -> Answer:
        nonlocal asked
        if body and json.loads(body).get("method") == "tools/list":
            asked += 1
            return (429, HTML, b"") if asked == 1 else answer(body, result={"tools": []})
        return await old(method, headers, body)

    async with raw_http(respond) as definition:
        assert await pool.list_tools(definition) == ToolList()
    assert asked == 2


async def test_a_call_is_not_sent_again_after_its_time(pool: SessionPool) -> None:
    """Getting a new session took longer than the call had: it would be given up at once."""
    old, sent = OldServer(), 0

    async def respond(method: str, headers: dict[str, str], body: bytes) -> Answer:
        nonlocal sent
        name = json.loads(body).get("method", "") if body else ""
        if name == "initialize" and old.sessions:
            await asyncio.sleep(1.5)
        if name == "tools/call":
            sent += 1
        return await old(method, headers, body)

    async with raw_http(respond) as definition:
        await pool.call(definition, "any", {}, timeout=1, repeatable=False)
        old.forgotten.add("s0")
        with pytest.raises(SessionGone) as caught:
            await pool.call(definition, "any", {}, timeout=1, repeatable=False)
        await asyncio.sleep(1)
    assert not caught.value.outcome_unknown
    assert sent == 2
