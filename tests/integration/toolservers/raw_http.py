"""Tool servers over HTTP made of a function that answers requests."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

from toolservers.definition import ServerDefinition

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
