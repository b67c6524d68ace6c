"""Tool servers that speak HTTP, or the protocol over it, wrongly: each path in its own way.

``/TRANSPORT/call/MODE`` has two tools, ``look`` and ``note``, and misbehaves when one is called;
``/TRANSPORT/handshake/MODE`` misbehaves from the first request on. ``TRANSPORT`` is ``http`` (of
the era with sessions, in which ending a session is a request, too) or ``sse``.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Self
from urllib.parse import parse_qs, urlsplit

from tests.acceptance.runs import wrong_tools
from tests.acceptance.runs.wrong_answers import (
    ANSWERS,
    EVENTS,
    EVENTS_TYPE,
    Exchange,
    Json,
    Mode,
)

_READING = {"readOnlyHint": True}
TOOLS = [
    {"name": "look", "inputSchema": {"type": "object"}, "annotations": _READING},
    {"name": "note", "inputSchema": {"type": "object"}},
]
MESSAGES = ("version", "shape", "pages", "long-pages", "strangers", "forgets")
"""What is wrong in the messages, from the handshake on; most of it as over stdio."""


class WrongServer:
    """Listens on a free port of 127.0.0.1 as long as the ``with`` block lasts."""

    def __init__(self) -> None:
        self.open: Counter[str] = Counter()
        """Misbehaviour that goes on, by path."""
        self.astray: list[Mapping[str, str]] = []
        """The headers of each request that followed a redirect to another origin."""
        self._streams: dict[str, Exchange] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wrong http")
        self._servers: list[asyncio.Server] = []
        self._handlers: set[asyncio.Task[None]] = set()
        self._base, self._elsewhere = "", ""

    def url(self, path: str) -> str:
        return f"{self._base}/{path}"

    @property
    def port(self) -> int:
        return int(self._base.rpartition(":")[2])

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(timeout=10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    async def _start(self) -> None:
        for answer in (self._answer, self._note_astray):
            self._servers.append(await asyncio.start_server(self._handler(answer), "127.0.0.1", 0))
        self._base, self._elsewhere = (
            f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in self._servers
        )

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._handlers:
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    def _handler(
        self, answer: Mode
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._handlers.add(task)
            try:
                await answer(await self._received(reader, writer))
                writer.close()
                await writer.wait_closed()
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                self._handlers.discard(task)
                writer.transport.abort()

        return handle

    async def _received(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Exchange:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        pairs = (line.partition(": ") for line in head[1:] if line)
        headers = {name.lower(): value for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        method, target, _ = head[0].split()
        return Exchange(method, target, headers, body, reader, writer, self._elsewhere)

    async def _note_astray(self, exchange: Exchange) -> None:
        self.astray.append(exchange.headers)
        await exchange.whole(404, b"", "text/plain")

    async def _answer(self, exchange: Exchange) -> None:
        _, transport, when, mode = urlsplit(exchange.target).path.split("/")
        over = {"http": self._over_http, "sse": self._over_sse}[transport]
        await over(exchange, when, mode)

    async def _misbehave(self, exchange: Exchange, mode: Mode) -> None:
        path = urlsplit(exchange.target).path
        self.open[path] += 1
        try:
            await mode(exchange)
        finally:
            self.open[path] -= 1

    async def _over_http(self, exchange: Exchange, when: str, mode: str) -> None:
        message: Json = json.loads(exchange.body or b"{}")
        wrong = ANSWERS.get(mode) or _eventful(EVENTS.get(mode))
        name = message.get("method", exchange.method)
        resumed = "last-event-id" in exchange.headers
        if wrong and (when == "handshake" or name in ("tools/call", "DELETE") or resumed):
            await self._misbehave(exchange, wrong)
        elif exchange.method == "GET":
            await exchange.whole(405, b"", "text/plain")
        elif mode == "forgets" and "mcp-session-id" in exchange.headers:
            await exchange.whole(404, b"", "text/plain")
        elif "id" not in message or "method" not in message:
            await exchange.whole(202, b"", "text/plain")
        elif name == "server/discover":
            await exchange.whole(400, b"what session?", "text/plain")
        else:
            reply = json.dumps(_reply(mode, message)).encode()
            await exchange.whole(200, reply, **{"Mcp_Session_Id": "s"})

    async def _over_sse(self, exchange: Exchange, when: str, mode: str) -> None:
        session = parse_qs(urlsplit(exchange.target).query).get("session", [""])[0]
        at_once = when == "handshake"
        if not session:
            if at_once and mode in ANSWERS:
                await self._misbehave(exchange, ANSWERS[mode])
                return
            key = str(id(exchange))
            self._streams[key] = exchange
            await exchange.head(200, EVENTS_TYPE)
            if at_once and mode in EVENTS:
                await self._misbehave(exchange, EVENTS[mode])
                return
            await exchange.event(f"{exchange.target}?session={key}", "endpoint")
            await exchange.silence()
            return
        message: Json = json.loads(exchange.body)
        stream = self._streams[session]
        is_call = message.get("method") == "tools/call"
        if is_call and mode in ANSWERS:
            await self._misbehave(exchange, ANSWERS[mode])
            return
        await exchange.whole(202, b"", "text/plain")
        if is_call and mode in EVENTS:
            await self._misbehave(stream, EVENTS[mode])
            stream.writer.close()
        elif "id" in message and "method" in message:
            await stream.event(_reply(mode, message))


def _eventful(mode: Mode | None) -> Mode | None:
    if mode is None:
        return None

    async def answer(exchange: Exchange) -> None:
        await exchange.head(200, EVENTS_TYPE)
        await mode(exchange)

    return answer


def _reply(mode: str, message: Json) -> Json:
    number = 77 if mode == "strangers" else message["id"]
    result = {"tools": TOOLS}
    if message["method"] == "initialize" or mode in ("shape", "pages", "halves"):
        result = wrong_tools.answer(mode, message) or {}
    if message["method"] == "tools/list" and mode == "long-pages":
        result = wrong_tools.answer("pages", message) or {}
        result["tools"][0]["description"] = "x" * (8 << 20)
    return {"jsonrpc": "2.0", "id": number, "result": result}
