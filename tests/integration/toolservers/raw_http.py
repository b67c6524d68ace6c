"""Tool servers over HTTP made of a function that answers requests."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from enum import Enum

from toolservers.definition import ServerDefinition


class Ending(Enum):
    """How a connection ends without an answer."""

    CLOSED = "closed"
    RESET = "reset"


Answer = tuple[int, dict[str, str], bytes]
Respond = Callable[[str, dict[str, str], bytes], Awaitable[Answer | Ending]]
Handler = Callable[[bytes], Answer | Ending]


@contextlib.asynccontextmanager
async def raw_http(
    respond: Respond, *, keeps_open: bool = False, reads: Callable[[], bool] = lambda: True
) -> AsyncIterator[ServerDefinition]:
    """A server that answers HTTP requests by a function of method, headers and body.

    It takes one request a connection unless it ``keeps_open``. Where it does not want to read, it
    resets: a new connection at once, an open one after the next request's first byte.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not reads():
            _reset(writer)
            return
        while start := await reader.read(1):
            if not reads():
                _reset(writer)
                return
            head = (start + await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            headers = {
                name.lower(): value
                for name, _, value in (line.partition(": ") for line in head[1:])
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            answer = await respond(head[0].split()[0], headers, body)
            if isinstance(answer, Ending):
                if answer is Ending.RESET:
                    _reset(writer)
                return
            status, said, content = answer
            ends = {} if keeps_open else {"connection": "close"}
            said = {"content-length": str(len(content)), **ends, **said}
            lines = [f"HTTP/1.1 {status} X", *(f"{k}: {v}" for k, v in said.items()), "", ""]
            writer.write("\r\n".join(lines).encode() + content)
            await writer.drain()
            if not keeps_open:
                return

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


@contextlib.contextmanager
def black_hole(port: int = 0) -> Iterator[int]:
    """A port on which nobody answers: the kernel's queue of connections is full."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        where = listener.getsockname()
        for _ in range(4):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(where)
        yield where[1]


def _reset(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def answer(body: bytes, **members: object) -> Answer:
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

    async def __call__(self, method: str, headers: dict[str, str], body: bytes) -> Answer:
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


def calling(handler: Handler) -> Respond:
    """An old-era server whose ``tools/call`` is answered by ``handler``."""
    old = OldServer()

    async def respond(method: str, headers: dict[str, str], body: bytes) -> Answer | Ending:
        if body and json.loads(body).get("method") == "tools/call":
            return handler(body)
        return await old(method, headers, body)

    return respond
