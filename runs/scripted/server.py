"""The scripted model server's HTTP side: HTTP/1.1 with keep-alive on asyncio streams.

Written by hand because it is measured against: a framework would cost more than the client under
test. It serves trusted local clients (demo, tests, benchmark) and is not for the open network.
"""

import asyncio
import contextlib
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

from runs.scripted import replies
from runs.scripted.scenario import ErrorFault, Fault, Script, Turn
from runs.scripted.template import Conversation

_MAX_HEAD = 64 * 1024
_MAX_BODY = 32 * 1024 * 1024
_REMEMBERED_TRIES = 10_000
_NOTICE = "This server plays a script; no AI is asked."
_MALFORMED = {
    "not_json": b'{"id": "chatcmpl-scripted", "choices": [{"mess',
    "wrong_shape": b'{"id": "chatcmpl-scripted", "object": "chat.completion", "choices": []}',
    "empty": b"",
    "html": b"<html><body><h1>It works!</h1></body></html>",
}
_TYPES = {"html": "text/html"}

F = TypeVar("F", bound=Fault)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request. ``headers`` have lower-case names; ``body`` is parsed JSON or None."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    body: Any


@dataclass(frozen=True, kw_only=True)
class Received:
    """One chat-completions request as the server saw it, for tests to look at."""

    model: str
    turn: int
    stream: bool
    headers: dict[str, str]
    body: dict[str, Any]


class BadRequest(Exception):
    """The bytes received are not an HTTP request this server reads."""


class ScriptedServer:
    """Plays one script to any number of connections on one event loop."""

    def __init__(
        self, script: Script, *, on_request: Callable[[Received], None] | None = None
    ) -> None:
        self._script = script
        self._on_request = on_request
        self._tries: OrderedDict[bytes, int] = OrderedDict()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen. Returns the port, which is a free one when ``port`` is 0."""
        self._server = await asyncio.start_server(
            self._serve, host, port, backlog=1024, limit=_MAX_HEAD
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop every connection, also those in the middle of an answer."""
        if self._server:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while (request := await _read_request(reader)) is not None:
                await self._answer(request, writer)
                await writer.drain()
                if writer.is_closing() or request.headers.get("connection", "").lower() == "close":
                    break
        except BadRequest as error:
            _send_error(writer, 400, str(error), "invalid_request_error", None)
        except (ConnectionError, asyncio.CancelledError):
            writer.transport.abort()  # the client went away, or the server is closing
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path == "/v1/chat/completions" and request.method == "POST":
            await self._complete(request, writer)
        elif request.path == "/v1/models" and request.method == "GET":
            _send(writer, 200, replies.model_list(self._script.models))
        elif request.path == "/" and request.method == "GET":
            _send(
                writer, 200, f"{_NOTICE} {self._script.about}".strip().encode(), kind="text/plain"
            )
        else:
            problem = f"no such resource: {request.method} {request.path}"
            _send_error(writer, 404, problem, "invalid_request_error", None)

    async def _complete(self, request: Request, writer: asyncio.StreamWriter) -> None:
        body = request.body
        messages = body.get("messages") if isinstance(body, dict) else None
        if not isinstance(messages, list) or not isinstance(body.get("model"), str):
            problem = "model (string) and messages (list) are required"
            _send_error(writer, 400, problem, "invalid_request_error", None)
            return
        model, stream = body["model"], bool(body.get("stream"))
        conversation = Conversation.of(messages)
        if self._on_request:
            self._on_request(
                Received(
                    model=model,
                    turn=conversation.turn,
                    stream=stream,
                    headers=request.headers,
                    body=body,
                )
            )
        scenario = self._script.choose(model, conversation.first_user)
        if scenario is None:
            problem = f"no scenario answers to the model {model} and this task"
            _send_error(writer, 404, problem, "invalid_request_error", "model_not_found")
            return
        turn = scenario.turn(conversation.turn)
        if turn is None:
            problem = f"the scenario {scenario.name} has no turn {conversation.turn + 1}"
            _send_error(writer, 400, problem, "invalid_request_error", "script_ended")
            return
        strikes = self._strikes(turn, request)
        if turn.delay:
            await asyncio.sleep(turn.delay)
        reply = replies.compose(turn, conversation, model=model, prompt_size=len(request.raw))
        if error := strikes(turn.error):
            _send_fault(writer, error)
        elif malformed := strikes(turn.malformed):
            content = _MALFORMED[malformed.how]
            kind = _TYPES.get(malformed.how, "application/json")
            if stream and kind != "text/html":
                content, kind = replies.event(content.decode()), "text/event-stream"
            _send(writer, 200, content, kind=kind)
        elif stream:
            usage = bool((body.get("stream_options") or {}).get("include_usage"))
            await _stream(writer, turn, reply, strikes, include_usage=usage)
        elif strikes(turn.endless):
            await _never_end(writer, turn)
        elif strikes(turn.cut):
            content = replies.whole(reply)
            _write_head(writer, 200, {"Content-Length": str(len(content))})
            await _cut(writer, content[: len(content) // 2])
        else:
            _send(writer, 200, replies.whole(reply))

    def _strikes(self, turn: Turn, request: Request) -> "_Strikes":
        """Count this try, if the turn has a fault that looks at the count."""
        faults = (turn.error, turn.malformed, turn.cut, turn.endless)
        if not any(fault and fault.times for fault in faults):
            return _Strikes(1)
        key = hashlib.blake2b(request.raw, digest_size=16).digest()
        tries = self._tries.pop(key, 0) + 1
        self._tries[key] = tries
        if len(self._tries) > _REMEMBERED_TRIES:
            self._tries.popitem(last=False)
        return _Strikes(tries)


class _Strikes:
    """Tells whether a fault strikes on the try with this number, from 1."""

    def __init__(self, tries: int) -> None:
        self._tries = tries

    def __call__(self, fault: F | None) -> F | None:
        if fault is None or (fault.times is not None and self._tries > fault.times):
            return None
        return fault


async def _stream(
    writer: asyncio.StreamWriter,
    turn: Turn,
    reply: replies.Reply,
    strikes: _Strikes,
    *,
    include_usage: bool,
) -> None:
    _write_head(writer, 200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
    parts = replies.pieces(reply, include_usage=include_usage)
    cut = strikes(turn.cut)
    if strikes(turn.endless):
        while True:
            writer.write(_chunk(replies.piece(reply, {"content": "and so on "})))
            await writer.drain()
            await asyncio.sleep(turn.drip)
    if not turn.drip and not cut:
        writer.write(_chunk(b"".join(parts)) + b"0\r\n\r\n")
        return
    for number, part in enumerate(parts):
        if cut and number == cut.after:
            await _cut(writer, b"")
            return
        writer.write(_chunk(part))
        await writer.drain()
        await asyncio.sleep(turn.drip)
    if cut:
        await _cut(writer, b"")  # the script asked for more pieces than there are
        return
    writer.write(b"0\r\n\r\n")


async def _never_end(writer: asyncio.StreamWriter, turn: Turn) -> None:
    """White space before a JSON value is valid JSON so far, for ever."""
    _write_head(writer, 200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
    blank = _chunk(b" " * (1 if turn.drip else 65536))
    while True:
        writer.write(blank)
        await writer.drain()
        await asyncio.sleep(turn.drip)


async def _cut(writer: asyncio.StreamWriter, last: bytes) -> None:
    """Send what is there, then close without the end the headers promised."""
    writer.write(last)
    with contextlib.suppress(ConnectionError):
        await writer.drain()
    writer.close()


def _send(
    writer: asyncio.StreamWriter,
    status: int,
    content: bytes,
    *,
    kind: str = "application/json",
    extra: dict[str, str] | None = None,
) -> None:
    headers = {"Content-Type": kind, "Content-Length": str(len(content)), **(extra or {})}
    _write_head(writer, status, headers, content)


def _send_fault(writer: asyncio.StreamWriter, fault: ErrorFault) -> None:
    extra = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after}"}
    content = replies.error_body(message=fault.message, kind=fault.type, code=fault.code)
    _send(writer, fault.status, content, extra=extra)


def _send_error(
    writer: asyncio.StreamWriter, status: int, message: str, kind: str, code: str | None
) -> None:
    _send(writer, status, replies.error_body(message=message, kind=kind, code=code))


def _write_head(
    writer: asyncio.StreamWriter, status: int, headers: dict[str, str], content: bytes = b""
) -> None:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"X-Scripted: {_NOTICE}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content)


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request, or None when the client has closed the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequest("the request's head is too long") from error
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    try:
        method, target, _ = first.split(" ")
        pairs = (line.split(":", 1) for line in lines)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        length = int(headers.get("content-length", 0))
    except ValueError as error:
        raise BadRequest("the request's head is not HTTP") from error
    if headers.get("transfer-encoding", "").lower() == "chunked":
        raw = await _read_chunks(reader)
    elif not 0 <= length <= _MAX_BODY:
        raise BadRequest("the request's body is too long")
    else:
        raw = await reader.readexactly(length)
    try:
        body = json.loads(raw) if raw else None
    except ValueError as error:
        raise BadRequest("the request's body is not JSON") from error
    path = target.partition("?")[0]
    return Request(method=method, path=path, headers=headers, raw=raw, body=body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    total = 0
    while True:
        try:
            size = int((await reader.readline()).split(b";")[0], 16)
        except ValueError as error:
            raise BadRequest("the request's body is not chunked as it says") from error
        total += size
        if not 0 <= total <= _MAX_BODY:
            raise BadRequest("the request's body is too long")
        part = await reader.readexactly(size + 2)
        if size == 0:
            return b"".join(parts)
        parts.append(part[:-2])
