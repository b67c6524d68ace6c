"""The stdio transport: newline-delimited JSON-RPC with a process, every buffer bounded.

The SDK's own ``stdio_client`` reads lines without a limit, passes on its own choice of environment
and cannot be made to kill at once; this one implements the SDK's stream protocols directly on
asyncio's pipes, without helper tasks.
"""

import asyncio
import contextlib
import logging
from types import TracebackType

import anyio
import mcp_types as types
from mcp.shared.message import SessionMessage

from toolservers.errors import ToolServerError, ToolServerMisbehaved
from toolservers.processes import ServerProcess
from toolservers.stderr import StderrLines
from toolservers.surrogates import whole_characters

logger = logging.getLogger(__name__)

MESSAGES_PER_REQUEST = 10_000
"""Messages a server may send before it must have been asked something again."""


class _Stream:
    """What both directions share: they are context managers that close nothing by themselves."""

    def __init__(self) -> None:
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True

    async def __aenter__(self) -> "_Stream":
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.aclose()


class StdoutStream(_Stream):
    """The server's messages. Ends when its standard output ends or breaks the rules."""

    def __init__(self, name: str, process: ServerProcess, stray: StderrLines) -> None:
        super().__init__()
        self._name = name
        self._process = process
        self._stray = stray
        self.allowance = MESSAGES_PER_REQUEST
        self.violation: ToolServerError | None = None

    async def receive(self) -> SessionMessage | Exception:
        """The next message.

        Raises:
            anyio.EndOfStream: there will be none; ``violation`` says why if the server is to blame.
        """
        while True:
            line = await self._line()
            # Buffered lines come without waiting: let other sessions have their turn.
            await asyncio.sleep(0)
            self.allowance -= 1
            if self.allowance < 0:
                self._blame(f"sent {MESSAGES_PER_REQUEST} messages nobody asked for")
            if not line.strip():
                continue
            try:
                message = types.jsonrpc_message_adapter.validate_json(
                    whole_characters(line), by_name=False
                )
            except ValueError:
                # Prints on stdout are a common mistake; they belong to the log, not the protocol.
                self._stray.feed(line)
                continue
            return SessionMessage(message)

    async def _line(self) -> bytes:
        with contextlib.suppress(asyncio.IncompleteReadError):
            try:
                return await self._process.stdout.readuntil(b"\n")
            except asyncio.LimitOverrunError:
                return self._blame("sent a message larger than Station accepts")
        # Not while the other error is handled: that one holds the unfinished line.
        raise anyio.EndOfStream

    def _blame(self, what: str) -> bytes:
        self.violation = ToolServerMisbehaved(f"Tool server {self._name} {what}.")
        raise anyio.EndOfStream

    def __aiter__(self) -> "StdoutStream":
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> "StdoutStream":
        return self


class StdinStream(_Stream):
    """Our messages to the server."""

    def __init__(self, process: ServerProcess, stdout: StdoutStream) -> None:
        super().__init__()
        self._process = process
        self._stdout = stdout

    async def send(self, item: SessionMessage) -> None:
        """Queue a message.

        Raises:
            anyio.ClosedResourceError: the server is gone, being killed, or does not read.
        """
        if self.closed:
            raise anyio.ClosedResourceError
        if isinstance(item.message, types.JSONRPCRequest):
            self._stdout.allowance = MESSAGES_PER_REQUEST
        line = item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
        if not self._process.write(line):
            self.closed = True
            raise anyio.ClosedResourceError

    async def __aenter__(self) -> "StdinStream":
        return self
