"""Opening the three transports, each as one context manager that yields a :class:`Link`."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx2
from mcp.client._transport import ReadStream, WriteStream
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCRequest

from toolservers.definition import ServerDefinition
from toolservers.errors import ToolServerError, ToolServerMisbehaved, ToolServerUnavailable
from toolservers.event_streams import TooMuch
from toolservers.http_connections import http_client
from toolservers.http_transport import CallTransport, LegacyTransport, reason
from toolservers.processes import Guard, ServerProcess, child_environment, resolve_command
from toolservers.redaction import Redactor
from toolservers.stderr import StderrLines
from toolservers.stdio_transport import StdinStream, StdoutStream

LAST_WORDS = 3
"""Lines of standard error that are quoted when a server ends unexpectedly."""
MOST_QUESTIONS = 1_000
"""Requests of its own a server may send before it must have been asked something again."""
EVENT_IDLE = 24 * 3600.0
"""Seconds a legacy event stream may be silent."""

StderrSink = Callable[[ServerDefinition, str], None]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a pool grants every server of this process."""

    output_limit: int
    """Bytes of text a result may have."""
    passed_environment: Sequence[str] = ()
    allowed_commands: Sequence[str] = ()

    @property
    def frame_limit(self) -> int:
        """Bytes of one message. Larger answers fail; those below are cut to ``output_limit``."""
        return 4 * self.output_limit + 16 * 1024 * 1024


async def _at_once() -> None:
    return


@dataclass(kw_only=True)
class Link:
    """An open transport."""

    read: ReadStream[SessionMessage | Exception]
    write: WriteStream[SessionMessage]
    cut: Callable[[], None] = lambda: None
    """End it at once, without courtesy; what is under way on it is lost."""
    cause: Callable[[], ToolServerError | None] = lambda: None
    """Why it ended by itself, if that is known."""
    settled: Callable[[], Awaitable[None]] = _at_once
    """Wait a moment for the cause to become known."""
    pid: int | None = None


class WatchedStream:
    """A read stream that tells when it ends, and ends when the server asks too much.

    The SDK answers each of the server's own requests by a task, however many are waiting already.
    """

    def __init__(
        self, inner: ReadStream[SessionMessage | Exception], on_end: Callable[[], None]
    ) -> None:
        self._inner = inner
        self._on_end = on_end
        self._asked = 0

    @property
    def asked_too_much(self) -> bool:
        return self._asked > MOST_QUESTIONS

    def renew(self) -> None:
        """The server may ask again, because it has been asked."""
        self._asked = 0

    @property
    def last_context(self) -> Any:
        return getattr(self._inner, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        return await self._inner.receive()

    async def aclose(self) -> None:
        await self._inner.aclose()

    def __aiter__(self) -> "WatchedStream":
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            item = await self._inner.__anext__()
            if isinstance(item, SessionMessage) and isinstance(item.message, JSONRPCRequest):
                self._asked += 1
                if self.asked_too_much:
                    raise StopAsyncIteration
        except BaseException:
            self._on_end()
            raise
        return item

    async def __aenter__(self) -> "WatchedStream":
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        return await self._inner.__aexit__(exc_type, exc_val, exc_tb)


@asynccontextmanager
async def open_stdio(
    definition: ServerDefinition,
    *,
    limits: Limits,
    guard: Guard,
    redactor: Redactor,
    sink: StderrSink | None,
) -> AsyncIterator[Link]:
    """Start the server's process and end its group on exit, whatever happens in between.

    Raises:
        ToolServerUnavailable: the command is not allowed, missing, or cannot be started.
    """
    path = resolve_command(definition, limits.allowed_commands)
    last_words: deque[str] = deque(maxlen=LAST_WORDS)

    def emit(line: str) -> None:
        last_words.append(line)
        if sink is not None:
            sink(definition, line)

    try:
        process = await ServerProcess.start(
            (definition.command, *definition.args),
            path,
            child_environment(definition.env, limits.passed_environment),
            frame_limit=limits.frame_limit,
            stderr=StderrLines(emit, redactor),
            guard=guard,
        )
    except (OSError, ValueError) as error:
        raise ToolServerUnavailable(
            f"Tool server {definition.name} cannot be started: {redactor.text(str(error))}"
        ) from None
    stray = StderrLines(lambda line: emit(f"[stdout] {line}"), redactor)
    stdout = StdoutStream(definition.name, process, stray)
    stdin = StdinStream(process, stdout)
    gently = True

    def cut() -> None:
        nonlocal gently
        gently = False
        stdin.closed = True

    def cause() -> ToolServerError | None:
        if stdout.violation is not None:
            return stdout.violation
        code = process.exit_code
        ended = "closed its output" if code is None else f"ended with exit status {code}"
        words = f" Its last words: {' | '.join(last_words)}" if last_words else ""
        return ToolServerUnavailable(f"Tool server {definition.name} {ended}.{words}")

    try:
        yield Link(
            read=stdout,
            write=stdin,
            cut=cut,
            cause=cause,
            settled=process.settled,
            pid=process.pid,
        )
    finally:
        await _certainly(process.stop(gently=gently and stdout.violation is None))


@asynccontextmanager
async def open_http(definition: ServerDefinition, *, limits: Limits) -> AsyncIterator[Link]:
    """Streamable HTTP. Nothing is sent before the first request."""
    transport = CallTransport(body_limit=limits.frame_limit)
    async with (
        http_client(definition, transport) as client,
        streamable_http_client(
            definition.url, http_client=client, max_sse_event_size=limits.frame_limit
        ) as (read, write),
    ):
        yield Link(read=read, write=write)


@asynccontextmanager
async def open_sse(
    definition: ServerDefinition,
    *,
    limits: Limits,
    redactor: Redactor,
    on_failure: Callable[[], None],
) -> AsyncIterator[Link]:
    """Legacy SSE: one long GET for what the server says, POSTs for what Station says.

    The SDK accepts messages of at most 1 MiB on it.
    """
    failures: list[Exception] = []

    def failed(error: Exception) -> None:
        failures.append(error)
        on_failure()

    def cause() -> ToolServerError | None:
        if not failures:
            return None
        error = failures[0]
        kind = ToolServerMisbehaved if isinstance(error, TooMuch) else ToolServerUnavailable
        return kind(f"Tool server {definition.name}: {redactor.text(reason(error))}.")

    def client(
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        transport = LegacyTransport(
            patience=definition.request_timeout, size=limits.frame_limit, on_failure=failed
        )
        return http_client(definition, transport, silence=EVENT_IDLE)

    try:
        async with sse_client(definition.url, httpx_client_factory=client) as (read, write):
            yield Link(read=read, write=write, cause=cause)
    except (httpx2.HTTPError, ExceptionGroup) as error:
        if not isinstance(first_of(error), httpx2.HTTPError | httpx2.StreamError):
            raise
        # Not the exception's own words: they quote the URL.
        said = reason(failures[0]) if failures else type(first_of(error)).__name__
        raise ToolServerUnavailable(
            f"Tool server {definition.name} cannot be reached: {redactor.text(said)}."
        ) from None


def first_of(error: BaseException) -> BaseException:
    """The first real exception in nested groups, which the SDK's task groups raise."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _certainly(ending: Any) -> None:
    """Await ``ending`` to its end even if this task is cancelled meanwhile."""
    task = asyncio.ensure_future(ending)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
