"""One session with one tool server, from handshake to end.

The SDK requires that the task which opens a session also closes it, so every session has an owner
task that does both and sleeps in between. Requests run as tasks of their own: who gives up waiting
for one returns at once, whatever the server does.
"""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

import mcp_types as types
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import TypeAdapter, ValidationError

from station.core import strict_json
from toolservers.definition import JsonObject, ServerDefinition, ToolList, ToolResult
from toolservers.errors import (
    SessionGone,
    ToolCallTimeout,
    ToolRefused,
    ToolServerError,
    ToolServerMisbehaved,
    ToolServerUnavailable,
)
from toolservers.failures import Failures, is_lost
from toolservers.fates import Fate, told
from toolservers.links import (
    Limits,
    Link,
    StderrSink,
    WatchedStream,
    first_of,
    open_http,
    open_sse,
    open_stdio,
)
from toolservers.listing import Endless, all_tools, usable
from toolservers.negotiation import negotiate
from toolservers.patience import Patience, have
from toolservers.processes import Guard
from toolservers.redaction import Redactor
from toolservers.results import storable, storable_json, tool_result

CLIENT = types.Implementation(name="station", version="0.1.0")
CLOSE_SECONDS = 4.0
"""What an owner gets to close its session before it is cancelled."""

_CALL_RESULT: TypeAdapter[types.CallToolResult | types.InputRequiredResult] = TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)
Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a session needs of its pool."""

    limits: Limits
    guard: Guard
    sink: StderrSink | None = None


class Session:
    """A session and its owner task. Create it, :meth:`open` it, call it, :meth:`close` it.

    ``exclusive``: one call at a time, and giving up a call ends the server's process (stdio).
    """

    def __init__(
        self,
        definition: ServerDefinition,
        surroundings: Surroundings,
        on_closed: Callable[["Session"], None],
        *,
        key: str,
    ) -> None:
        self.definition = definition
        self.key = key
        self.exclusive = definition.transport == "stdio"
        self.in_use = 0
        self.giving_way = False
        """It gets no more calls, and is ended after those it has: its room is needed."""
        self.idle_since = time.monotonic()
        self.opened_in = 0.0
        """Seconds that connecting and the handshake took."""
        self._surroundings = surroundings
        self._redactor = Redactor(definition.secrets)
        self._failures = Failures(definition.name, self._redactor)
        self._on_closed = on_closed
        self._over = asyncio.Event()
        self._ready: asyncio.Future[ClientSession] = asyncio.get_running_loop().create_future()
        self._client: ClientSession | None = None
        self._link: Link | None = None
        self._heard: WatchedStream | None = None
        self._requests: set[asyncio.Task[Any]] = set()
        self._retired = False
        self._owner: asyncio.Task[None] | None = None

    @property
    def usable(self) -> bool:
        """It is open and, as far as is known, its server is there."""
        return self._client is not None and not self._retired and not self._over.is_set()

    @property
    def ending(self) -> bool:
        """It is being closed, and its room will be free in a moment."""
        return self._over.is_set()

    @property
    def pid(self) -> int | None:
        """The server's pid and process group, for a stdio server that is running."""
        return None if self._link is None else self._link.pid

    @property
    def protocol_version(self) -> str:
        return (self._client and self._client.protocol_version) or ""

    @property
    def server(self) -> tuple[str, str]:
        """The name and the version the server gave itself."""
        found = self._client and self._client.server_info
        return (storable(found.name), storable(found.version)) if found else ("", "")

    async def open(self, *, timeout: float) -> None:
        """Connect and shake hands within ``timeout`` seconds (and 2 more to clean up if not).

        Raises:
            ToolServerUnavailable, ToolServerMisbehaved: it did not work; the session is closed.
        """
        self._owner = asyncio.create_task(self._own(timeout), name=f"mcp-{self.definition.name}")
        try:
            await asyncio.shield(self._ready)
        except asyncio.CancelledError:
            self.end(at_once=True)
            await asyncio.wait({self._owner}, timeout=CLOSE_SECONDS)
            raise

    def end(self, *, at_once: bool = False) -> None:
        """Ask the owner to close; ``at_once`` gives up what is under way and kills the server."""
        if at_once and self._link is not None:
            self._link.cut()
        self._over.set()
        if self._client is None and self._owner is not None:
            # Still in the handshake, where it hears nothing else.
            self._owner.cancel()

    async def close(self) -> None:
        """Close and wait for it, for :data:`CLOSE_SECONDS` and what the transport needs on top."""
        self.end()
        if self._owner is None:
            return
        await asyncio.wait({self._owner}, timeout=CLOSE_SECONDS)
        if not self._owner.done():
            self._owner.cancel()
            await asyncio.wait({self._owner}, timeout=CLOSE_SECONDS)

    async def list_tools(self, *, timeout: float) -> ToolList:
        """The tools the server lists, as far as they can be used. Raises as :meth:`call`.

        Raises:
            ToolServerMisbehaved: it lists tools, and none of them can be used.
        """
        limit = self._surroundings.limits.frame_limit
        tools = await self._request(lambda client: all_tools(client, limit), timeout, effects=False)
        listed = usable(tools)
        if listed.left_out and not listed.tools:
            raise ToolServerMisbehaved(
                f"{self._failures.who} lists no tool that can be used: "
                f"{'; '.join(listed.left_out)}."
            )
        return listed

    async def call(
        self,
        tool: str,
        arguments: JsonObject,
        *,
        timeout: float,
        meta: JsonObject | None,
        before_send: Callable[[], None] | None,
    ) -> ToolResult:
        """Call a tool and wait at most ``timeout`` seconds for its answer.

        ``before_send`` is called right before each sending; what it raises ends the call unsent.

        Raises:
            SessionGone: the session was over before anything was sent.
            ToolCallTimeout, ToolCallLost, ToolRefused, ToolServerMisbehaved,
            ToolServerUnavailable: as their names say.
        """
        try:
            arguments = strict_json.loads(json.dumps(storable_json(arguments), allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise ToolRefused(
                f"The arguments for {tool} cannot be sent as JSON: {error}."
            ) from None
        request = types.CallToolRequest(
            params=types.CallToolRequestParams.model_validate(
                {"name": tool, "arguments": arguments, "_meta": meta}
            )
        )
        limit = self._surroundings.limits.frame_limit
        result = await self._request(
            lambda client: _call(client, request, before_send or _nothing, limit),
            timeout,
            effects=True,
        )
        if isinstance(result, types.InputRequiredResult):
            raise ToolRefused(f"The tool {tool} asks for input, which Station cannot give.")
        return tool_result(
            result, limit=self._surroundings.limits.output_limit, redactor=self._redactor
        )

    # The owner

    async def _own(self, seconds: float) -> None:
        started = time.monotonic()
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(seconds):
                    self._link = await stack.enter_async_context(self._transport())
                    self._heard = WatchedStream(self._link.read, self._over.set)
                    client = await stack.enter_async_context(
                        ClientSession(self._heard, self._link.write, client_info=CLIENT)
                    )
                    await negotiate(client, stateless_first=self.definition.transport == "http")
                self._client = client
                self.opened_in = time.monotonic() - started
                if not self._ready.done():
                    self._ready.set_result(client)
                await self._over.wait()
        except asyncio.CancelledError:
            self._fail(ToolServerUnavailable(f"{self._failures.who} was closed while connecting."))
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001
            # Whatever the SDK throws at us is this server's failure, not this process's.
            cause = None if self._link is None else self._link.cause()
            self._fail(self._failures.of_handshake(first_of(error), seconds, cause))
        finally:
            self._over.set()
            for request in self._requests:
                request.cancel()
            self._on_closed(self)

    def _transport(self) -> AbstractAsyncContextManager[Link]:
        around = self._surroundings
        match self.definition.transport:
            case "stdio":
                return open_stdio(
                    self.definition,
                    limits=around.limits,
                    guard=around.guard,
                    redactor=self._redactor,
                    sink=around.sink,
                )
            case "http":
                return open_http(self.definition, limits=around.limits)
            case "sse":
                return open_sse(
                    self.definition,
                    limits=around.limits,
                    redactor=self._redactor,
                    on_failure=self._over.set,
                )

    def _fail(self, error: ToolServerError) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)
            # Whoever opened this may have been cancelled: nobody has to collect the exception.
            self._ready.exception()

    # Requests

    async def _request(
        self,
        send: Callable[[ClientSession], Coroutine[Any, Any, Answer]],
        timeout: float,
        *,
        effects: bool,
    ) -> Answer:
        client = self._client
        if client is None or not self.usable:
            raise SessionGone(f"{self._failures.who}: the session has ended.")
        assert self._heard is not None
        self._heard.renew()
        patience = Patience()
        context = copy_context()
        context.run(have, patience)
        task = asyncio.create_task(send(client), context=context)
        self._requests.add(task)
        task.add_done_callback(self._collect)
        try:
            await asyncio.wait({task}, timeout=timeout)
            if task.done():
                failure = await self._failure(task, effects)
                if failure is None:
                    return task.result()
            else:
                self._give_up(task, patience)
                failure = ToolCallTimeout(
                    f"{self._failures.who} did not answer within {timeout:g} s.",
                    outcome_unknown=effects,
                )
        except asyncio.CancelledError:
            self._give_up(task, patience)
            raise
        finally:
            # A failure's traceback leads here, and the task to everything that the server sent.
            del task
        raise failure

    async def _failure(self, task: asyncio.Task[Any], effects: bool) -> ToolServerError | None:
        """What went wrong with a request that is over."""
        if task.cancelled():
            return await self._lost(effects)
        match task.exception():
            case None:
                return None
            case Endless() as error:
                return ToolServerMisbehaved(f"{self._failures.who} lists tools {error}.")
            case MCPError() as error if is_lost(error):
                return await self._lost(effects)
            case MCPError() as error:
                # If gone: no new calls on it; those in flight each hear for themselves.
                self._retired |= told(error).fate is Fate.SESSION_GONE
                return self._failures.of_call(error, effects)
            case ValidationError() as error:
                return self._failures.of_answer(error, effects)
            case error:
                raise error

    def _give_up(self, task: asyncio.Task[Any], patience: Patience) -> None:
        if self.exclusive:
            self.end(at_once=True)
        patience.lose()
        # Over HTTP the SDK now tells the server, on its own time.
        task.cancel()

    def _collect(self, task: asyncio.Task[Any]) -> None:
        self._requests.discard(task)
        if not task.cancelled():
            # Mark as retrieved: a given-up request may still fail.
            task.exception()

    async def _lost(self, effects: bool) -> ToolServerError:
        assert self._link is not None
        assert self._heard is not None
        if self._heard.asked_too_much:
            asked = ToolServerMisbehaved(f"{self._failures.who} asked instead of answering.")
            return self._failures.lost(asked, effects)
        await self._link.settled()
        return self._failures.lost(self._link.cause(), effects)


def _nothing() -> None:
    """Nobody wants to know that a call is sent."""


async def _call(
    client: ClientSession,
    request: types.CallToolRequest,
    before_send: Callable[[], None],
    limit: int,
) -> types.CallToolResult | types.InputRequiredResult:
    # Not ClientSession.call_tool: that one rejects answers which do not match the tool's own output
    # schema, and the tool has had its effect by then.
    before_send()
    try:
        return await client.send_request(request, _CALL_RESULT)
    except MCPError as error:
        # To servers of the era before, this code may mean anything.
        modern = client.protocol_version in MODERN_PROTOCOL_VERSIONS
        if error.code != types.HEADER_MISMATCH or not modern:
            raise
    # The server wants arguments repeated as headers, which the SDK knows only of listed tools.
    # It has rejected the call, so sending it again is safe.
    await all_tools(client, limit)
    before_send()
    return await client.send_request(request, _CALL_RESULT)
