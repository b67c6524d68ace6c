"""A tool server for tests that misbehaves on request. Started as ``python -m toolservers.testing``.

Every effect it has is a line in its sink file, so that tests can count what really happened. Over
stdio it speaks the protocol by itself, to start in 50 ms instead of the SDK's 1.5 s; over HTTP it
is an SDK server, and has one more tool, whose effects carry the key of their call.
"""

import argparse
import asyncio
import hashlib
import inspect
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from toolservers.definition import JsonObject

IGNORES_SIGTERM = "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
CALL_KEY = "station/call-key"
JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}
LONG = 600.0


def digest(secret: str) -> str:
    """How the server shows which secret it holds: SHA-256, hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


class HostileTools:
    """The tools; ``sink`` gets a line for each effect, ``wire`` is the protocol's own stdout."""

    def __init__(self, sink: Path, wire: int) -> None:
        self._sink = sink
        self._wire = wire

    @property
    def writing(self) -> tuple[Callable[..., Any], ...]:
        """The tools that have effects."""
        return (self.append_line, self.append_then, self.append_crash_once)

    @property
    def reading(self) -> tuple[Callable[..., Any], ...]:
        """The tools that say they are read-only."""
        return (
            self.sleep,
            self.crash,
            self.hang_ignoring_sigterm,
            self.fork_child,
            self.huge,
            self.big_text,
            self.chatter,
            self.stderr_flood,
            self.stderr_line,
            self.stderr_secret,
            self.env,
            self.whoami,
            self.fail,
        )

    def note(self, line: str) -> None:
        """Add a line to the sink."""
        with self._sink.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def append_line(self, text: str) -> str:
        """Append a line to the sink file: the effect that tests count."""
        self.note(text)
        return f"appended {text}"

    def append_then(self, text: str, then: Literal["crash", "hang", "garbage"]) -> str:
        """Append a line, then fail to answer."""
        self.note(text)
        if then == "crash":
            os._exit(3)
        if then == "garbage":
            self.huge()
        time.sleep(LONG)
        return "never"

    def append_crash_once(self, text: str) -> str:
        """Append a line; crash without an answer if it is the first one in the sink."""
        self.note(text)
        if len(self._sink.read_text(encoding="utf-8").splitlines()) == 1:
            os._exit(3)
        return "survived"

    async def sleep(self, seconds: float) -> str:
        """Answer after some time. Over HTTP, being cancelled leaves a line in the sink."""
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.note("cancelled")
            raise
        return f"slept {seconds:g} s"

    def crash(self) -> str:
        """Exit at once."""
        os.write(2, b"about to crash\n")
        os._exit(3)

    def hang_ignoring_sigterm(self) -> str:
        """Never answer; meant for a server started with --ignore-sigterm."""
        self.note(f"hanging {os.getpid()}")
        time.sleep(LONG)
        return "never"

    def fork_child(self, hang: bool = False) -> str:
        """Start a child in the same process group that ignores SIGTERM; tells its pid."""
        child = subprocess.Popen(
            [sys.executable, "-c", IGNORES_SIGTERM],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.note(f"child {child.pid}")
        if hang:
            time.sleep(LONG)
        return str(child.pid)

    def huge(self, mebibytes: int = 1024) -> str:
        """Write that much to the wire without a newline."""
        block = b"x" * (1 << 20)
        for _ in range(mebibytes):
            os.write(self._wire, block)
        return "written"

    def big_text(self, size: int) -> str:
        """A text of ``size`` bytes."""
        return "y" * size

    def chatter(self) -> str:
        """Send notifications for ever."""
        line = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n'
        while True:
            os.write(self._wire, line * 100)

    def stderr_flood(self, lines: int, length: int = 20) -> str:
        """Write lines to standard error as fast as possible."""
        for _ in range(lines):
            os.write(2, b"e" * length + b"\n")
        return "flooded"

    def stderr_line(self, text: str) -> str:
        """Write one line to standard error."""
        os.write(2, f"{text}\n".encode())
        return "said"

    def stderr_secret(self) -> str:
        """Write the environment variable SECRET to standard error."""
        os.write(2, f"the secret is {os.environ['SECRET']}!\n".encode())
        return "said"

    def env(self) -> str:
        """The names of this process's environment variables, comma-separated."""
        return ",".join(sorted(os.environ))

    def whoami(self) -> str:
        """JSON: the pid, the hash of SECRET and, over HTTP, of the Authorization header."""
        return json.dumps(
            {"pid": os.getpid(), "secret_sha256": digest(os.environ.get("SECRET", ""))}
        )

    def fail(self) -> str:
        """Report a failure as a tool does."""
        raise RuntimeError("the tool says no")


def describe(tool: Callable[..., Any], *, read_only: bool) -> JsonObject:
    """The entry of ``tools/list`` for a function whose parameters are simple values."""
    parameters = inspect.signature(tool).parameters.values()
    return {
        "name": tool.__name__,
        "description": inspect.getdoc(tool),
        "inputSchema": {
            "type": "object",
            "properties": {
                one.name: {"type": JSON_TYPES.get(one.annotation, "string")} for one in parameters
            },
            "required": [one.name for one in parameters if one.default is one.empty],
        },
        "annotations": {
            "readOnlyHint": read_only,
            "idempotentHint": read_only,
            "destructiveHint": False,
            "openWorldHint": False,
        },
    }


class StdioServer:
    """The few methods of the protocol that a client of tools needs, each call on a thread."""

    def __init__(self, tools: HostileTools, wire: int) -> None:
        self._wire = wire
        self._tools = {tool.__name__: tool for tool in (*tools.writing, *tools.reading)}
        self._list = [describe(tool, read_only=False) for tool in tools.writing]
        self._list += [describe(tool, read_only=True) for tool in tools.reading]

    def serve(self) -> None:
        """Answer until standard input ends."""
        for line in sys.stdin:
            message = json.loads(line)
            if "id" in message and "method" in message:
                threading.Thread(target=self._handle, args=(message,), daemon=True).start()

    def _handle(self, message: JsonObject) -> None:
        params = message.get("params", {})
        match message["method"]:
            case "initialize":
                outcome: JsonObject = {
                    "result": {
                        "protocolVersion": params["protocolVersion"],
                        "capabilities": {"tools": {}},
                        "serverInfo": {"name": "station-hostile", "version": "0"},
                    }
                }
            case "tools/list":
                outcome = {"result": {"tools": self._list}}
            case "tools/call" if params["name"] in self._tools:
                outcome = {"result": self._call(params["name"], params.get("arguments") or {})}
            case "tools/call":
                outcome = {"error": {"code": -32602, "message": f"unknown tool {params['name']}"}}
            case method:
                outcome = {"error": {"code": -32601, "message": f"unknown method {method}"}}
        line = json.dumps({"jsonrpc": "2.0", "id": message["id"], **outcome}) + "\n"
        left = memoryview(line.encode())
        while left:
            left = left[os.write(self._wire, left) :]

    def _call(self, name: str, arguments: JsonObject) -> JsonObject:
        try:
            answer = self._tools[name](**arguments)
            if inspect.isawaitable(answer):
                answer = asyncio.run(_awaited(answer))
        except Exception as error:  # noqa: BLE001 - the protocol's way to report a tool's failure
            return {"content": [{"type": "text", "text": str(error)}], "isError": True}
        return {"content": [{"type": "text", "text": answer}]}


async def _awaited(answer: Any) -> Any:
    return await answer


def serve_http(tools: HostileTools, options: argparse.Namespace) -> None:
    """The same tools from an SDK server; ``whoami`` also tells what the request carried."""
    from mcp.server.mcpserver import Context, MCPServer  # noqa: PLC0415 - takes over a second
    from mcp_types import ToolAnnotations  # noqa: PLC0415

    from toolservers.serving import serve  # noqa: PLC0415

    def whoami(ctx: Context[Any, Any]) -> str:
        headers = ctx.headers or {}
        return json.dumps(
            {
                **json.loads(tools.whoami()),
                "authorization_sha256": digest(headers.get("authorization", "")),
                "cookie": headers.get("cookie", ""),
            }
        )

    async def append_keyed(
        text: str, ctx: Context[Any, Any], before: float = 0.0, after: float = 0.0
    ) -> str:
        """Append JSON with the text, the call's key and the time to the sink.

        It takes the seconds ``before`` and ``after`` that.
        """
        meta: dict[str, Any] = dict(ctx.request_context.meta or {})
        await asyncio.sleep(before)
        effect = {"key": meta.get(CALL_KEY, ""), "text": text, "at": time.time()}
        tools.note(json.dumps(effect))
        await asyncio.sleep(after)
        return f"appended {text}"

    server = MCPServer("station-hostile", version="0", log_level="CRITICAL")
    for tool in (*tools.writing, *tools.reading):
        described = describe(tool, read_only=tool in tools.reading)
        server.add_tool(
            whoami if tool.__name__ == "whoami" else tool,
            annotations=ToolAnnotations.model_validate(described["annotations"]),
            structured_output=False,
        )
    server.add_tool(append_keyed, structured_output=False)
    serve(server, options)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m toolservers.testing", description=__doc__)
    parser.add_argument("--sink", type=Path, default=Path(os.devnull), metavar="FILE")
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--hang-handshake", action="store_true", help="never say anything")
    parser.add_argument("--crash-handshake", action="store_true", help="exit at once")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--http", type=int, metavar="PORT", help="streamable HTTP at /mcp; 0: any")
    where.add_argument("--sse", type=int, metavar="PORT", help="legacy SSE at /sse; 0: any")
    options = parser.parse_args()
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.crash_handshake:
        sys.exit("no licence found")
    if options.hang_handshake:
        time.sleep(LONG)
    wire = os.dup(1)
    tools = HostileTools(options.sink, wire)
    if options.http is None and options.sse is None:
        StdioServer(tools, wire).serve()
    else:
        serve_http(tools, options)
