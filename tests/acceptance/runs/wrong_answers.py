"""Wrong answers to an HTTP request: what one sends, byte by byte."""

import asyncio
import json
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
DRIP = 0.25
_BLOCK = b"x" * (1 << 20)
_GIGABYTE = 1024
JSON_TYPE = "application/json"
EVENTS_TYPE = "text/event-stream"


@dataclass
class Exchange:
    """One HTTP request, and the connection on which it is answered."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    elsewhere: str
    """An address of another origin."""

    async def send(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()

    async def head(self, status: int, kind: str = JSON_TYPE, **headers: object) -> None:
        """The head of an answer whose body ends with the connection, unless it says otherwise."""
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def whole(
        self, status: int, content: bytes, kind: str = JSON_TYPE, **more: object
    ) -> None:
        await self.head(status, kind, Content_Length=len(content), **more)
        await self.send(content)

    async def event(self, message: object, name: str = "message") -> None:
        said = message if isinstance(message, str) else json.dumps(message)
        await self.send(f"event: {name}\r\ndata: {said}\r\n\r\n".encode())

    async def for_ever(self, piece: bytes, *, every: float = 0.0) -> None:
        while True:
            await self.send(piece)
            await asyncio.sleep(every)

    async def silence(self) -> None:
        """Say nothing (any more) until the other side hangs up."""
        while not self.reader.at_eof():
            await asyncio.sleep(DRIP)

    def reset(self) -> None:
        """End the connection without a goodbye."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Mode = Callable[[Exchange], Awaitable[None]]


async def _hangs(exchange: Exchange) -> None:
    await exchange.silence()


async def _drips_headers(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: ")
    await exchange.for_ever(b"x", every=DRIP)


async def _drips(exchange: Exchange) -> None:
    await exchange.head(200)
    await exchange.for_ever(b" ", every=DRIP)


async def _endless_headers(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\n")
    for _ in range(_GIGABYTE):
        await exchange.send(b"X-Header: 1234567890\r\n" * 50_000)


async def _endless_interim_answers(exchange: Exchange) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
    await exchange.for_ever(hint * 100, every=0.01)


async def _gigabyte(exchange: Exchange) -> None:
    await exchange.head(200)
    for _ in range(_GIGABYTE):
        await exchange.send(_BLOCK)


async def _cut_short(exchange: Exchange) -> None:
    await exchange.head(200, Content_Length=100)
    await exchange.send(b'{"jsonrpc": ')


async def _resets(exchange: Exchange) -> None:
    await exchange.head(200, Content_Length=100)
    exchange.reset()


async def _html(exchange: Exchange) -> None:
    await exchange.whole(200, b"<html>Please log in</html>", "text/html")


async def _bad_gateway(exchange: Exchange) -> None:
    await exchange.whole(502, b"<html>Bad gateway</html>", "text/html")


async def _unavailable(exchange: Exchange) -> None:
    await exchange.whole(503, b"upstream connect error or disconnect/reset", "text/plain")


async def _turns_away(exchange: Exchange) -> None:
    await exchange.whole(429, b"", "text/plain", Retry_After=1)


async def _accepts(exchange: Exchange) -> None:
    await exchange.whole(202, b"", "text/plain")


async def _redirects_in_a_loop(exchange: Exchange) -> None:
    await exchange.whole(307, b"", Location=exchange.target)


async def _redirects_elsewhere(exchange: Exchange) -> None:
    await exchange.whole(307, b"", Location=exchange.elsewhere)


async def _bomb(exchange: Exchange) -> None:
    await exchange.head(200, Content_Encoding="gzip")
    await _explode(exchange, _BLOCK)


async def _explode(exchange: Exchange, content: bytes) -> None:
    packer = zlib.compressobj(wbits=31)
    for _ in range(_GIGABYTE):
        await exchange.send(packer.compress(content))


ANSWERS: dict[str, Mode] = {
    "hangs": _hangs,
    "drips-headers": _drips_headers,
    "drips": _drips,
    "endless-headers": _endless_headers,
    "endless-interim-answers": _endless_interim_answers,
    "a-gigabyte": _gigabyte,
    "cut-short": _cut_short,
    "resets": _resets,
    "html": _html,
    "bad-gateway": _bad_gateway,
    "unavailable": _unavailable,
    "turns-away": _turns_away,
    "accepts": _accepts,
    "redirects-in-a-loop": _redirects_in_a_loop,
    "redirects-elsewhere": _redirects_elsewhere,
    "bomb": _bomb,
}
"""What answers a request wrongly."""


async def _says_nothing(exchange: Exchange) -> None:
    await exchange.silence()


async def _drips_an_event(exchange: Exchange) -> None:
    await exchange.send(b"data: ")
    await exchange.for_ever(b"x", every=DRIP)


async def _gigabyte_event(exchange: Exchange) -> None:
    await exchange.send(b"data: ")
    for _ in range(_GIGABYTE):
        await exchange.send(_BLOCK)


async def _comments(exchange: Exchange) -> None:
    await exchange.for_ever(b": are you still there?\n\n" * 1000)


async def _notifications(exchange: Exchange) -> None:
    note = json.dumps({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    await exchange.for_ever(f"data: {note}\n\n".encode() * 100)


async def _questions(exchange: Exchange) -> None:
    ping = json.dumps({"jsonrpc": "2.0", "id": "x", "method": "ping"})
    await exchange.for_ever(f"data: {ping}\n\n".encode() * 100)


async def _nonsense(exchange: Exchange) -> None:
    await exchange.for_ever(b"data: {]\n\n", every=DRIP)


async def _dies(exchange: Exchange) -> None:
    await exchange.send(b'data: {"jsonrpc": "2.0", ')


async def _resets_the_stream(exchange: Exchange) -> None:
    await exchange.send(b"data: ")
    exchange.reset()


async def _resumes(exchange: Exchange) -> None:
    await exchange.send(b"id: 1\nretry: 0\ndata: \n\n")


async def _resumes_in_a_million_years(exchange: Exchange) -> None:
    await exchange.send(b"id: 1\nretry: 31536000000000000\ndata: \n\n")


EVENTS: dict[str, Mode] = {
    "says-nothing": _says_nothing,
    "drips-an-event": _drips_an_event,
    "a-gigabyte-event": _gigabyte_event,
    "comments": _comments,
    "notifications": _notifications,
    "questions": _questions,
    "nonsense": _nonsense,
    "dies": _dies,
    "resets-the-stream": _resets_the_stream,
    "resumes": _resumes,
    "resumes-in-a-million-years": _resumes_in_a_million_years,
}
"""What goes wrong on a stream of events."""
