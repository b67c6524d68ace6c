"""The sessions one process keeps with tool servers, shared by every run in it.

A session belongs to one definition (environment and every resolved value: see
:attr:`ServerDefinition.pool_key`). HTTP sessions carry many calls at once; stdio sessions, which
are processes, one at a time, so that giving up a call can kill the process without harm to others.
"""

import asyncio
import itertools
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from toolservers.definition import (
    JsonObject,
    ServerDefinition,
    ServerReport,
    ServerState,
    ToolList,
    ToolResult,
)
from toolservers.errors import (
    SessionGone,
    ToolCallLost,
    ToolServerBusy,
    ToolServerError,
    ToolServerUnavailable,
    TurnedAway,
)
from toolservers.http_connections import quiet_sdk_logs
from toolservers.links import Limits, StderrSink
from toolservers.processes import Guard
from toolservers.sessions import Session, Surroundings
from toolservers.sharing import SharedSessions, pause_after

logger = logging.getLogger(__name__)

CLEANING = 3.0
"""Seconds beyond ``request_timeout`` in which a failed connection is cleaned up."""
KNOWN_SERVERS = 1_000
Answer = TypeVar("Answer")


@dataclass(kw_only=True)
class _Health:
    up: bool = False
    last_error: str = ""


class SessionPool:
    """At most ``size`` sessions with tool servers, opened when needed, closed when idle.

    Belongs to one event loop. ``max_retries`` bounds repeated connects, and repeated sends of a
    call; ``output_limit`` is in bytes of UTF-8 text; ``passed_environment`` names variables of
    this process that stdio servers get beside PATH, HOME and LANG; ``allowed_commands`` are the
    only stdio commands, compared literally. ``on_stderr`` receives each line a stdio server writes
    to its standard error, redacted and bounded; it must not block.

    When the pool is full, callers wait in order; sessions nobody uses give way, the least recently
    used first. ``idle_seconds`` after its last use a session is closed.
    """

    def __init__(
        self,
        *,
        size: int,
        max_retries: int,
        output_limit: int,
        passed_environment: Sequence[str] = (),
        allowed_commands: Sequence[str] = (),
        on_stderr: StderrSink | None = None,
        idle_seconds: float = 300.0,
    ) -> None:
        quiet_sdk_logs()
        self._max_retries = max_retries
        self._guard = Guard()
        self._health: dict[tuple[int, str], _Health] = {}
        self._probes = itertools.count()
        self._shared = SharedSessions(
            size=size,
            max_retries=max_retries,
            idle_seconds=idle_seconds,
            surroundings=Surroundings(
                limits=Limits(
                    output_limit=output_limit,
                    passed_environment=tuple(passed_environment),
                    allowed_commands=tuple(allowed_commands),
                ),
                guard=self._guard,
                sink=None if on_stderr is None else _contained(on_stderr),
            ),
            note=self._note,
        )

    async def list_tools(self, definition: ServerDefinition) -> ToolList:
        """Ask the server for its tools; repeated like a repeatable call.

        Raises:
            ToolServerError: a subclass says what went wrong.
        """
        seconds = definition.request_timeout

        async def ask(session: Session, remaining: float) -> ToolList:
            return await session.list_tools(timeout=remaining)

        return await self._send(definition, ask, seconds=seconds, repeatable=True)

    async def call(
        self,
        definition: ServerDefinition,
        tool: str,
        arguments: JsonObject,
        *,
        timeout: float,
        repeatable: bool,
        meta: JsonObject | None = None,
        before_send: Callable[[], None] | None = None,
    ) -> ToolResult:
        """Call a tool.

        ``timeout`` seconds run from the first sending to the answer, repetitions included; waiting
        for a session and connecting come before it and have their own bounds. A call whose fate is
        unknown, or that was turned away for now, is sent again only if ``repeatable``; one that
        certainly was not sent, always. A server's wish to be asked later is heeded if time allows.
        ``before_send`` is called right before each sending; what it raises ends the call unsent.
        Cancelling tells an HTTP server and kills a stdio server's process group.

        Raises:
            ToolServerUnavailable: nothing was sent (not reachable, busy, command not allowed).
            ToolCallTimeout, ToolCallLost: sent, but no answer: the outcome is unknown.
            TurnedAway: the server does not want it now, and did nothing.
            ToolRefused: the server answered with a protocol error.
            ToolServerMisbehaved: it broke the protocol.
        """

        async def ask(session: Session, remaining: float) -> ToolResult:
            return await session.call(
                tool, arguments, timeout=remaining, meta=meta, before_send=before_send
            )

        return await self._send(definition, ask, seconds=timeout, repeatable=repeatable)

    async def probe(self, definition: ServerDefinition) -> ServerReport:
        """Connect anew, list the tools, close again.

        Raises:
            ToolServerError: a subclass says what went wrong.
        """
        key = f"{definition.pool_key}:probe:{next(self._probes)}"
        wait = definition.request_timeout + CLEANING
        async with self._shared.lease(definition, key=key, seconds=wait) as session:
            try:
                started = time.monotonic()
                listed = await session.list_tools(timeout=definition.request_timeout)
                name, version = session.server
                return ServerReport(
                    protocol_version=session.protocol_version,
                    server_name=name,
                    server_version=version,
                    listed=listed,
                    connect_seconds=session.opened_in,
                    latency=time.monotonic() - started,
                )
            finally:
                session.end()

    def states(self) -> list[ServerState]:
        """The servers this process has dealt with, and how they were when last heard of."""
        counts = Counter((one.environment_id, one.name) for one in self._shared.definitions())
        return [
            ServerState(
                environment_id=environment_id,
                name=name,
                up=health.up,
                sessions=counts[environment_id, name],
                last_error=health.last_error,
            )
            for (environment_id, name), health in self._health.items()
        ]

    async def close(self) -> None:
        """Close every session and kill every process; takes a few seconds at the most."""
        await self._shared.close()
        await self._guard.close()

    # Sending

    async def _send(
        self,
        definition: ServerDefinition,
        ask: Callable[[Session, float], Awaitable[Answer]],
        *,
        seconds: float,
        repeatable: bool,
    ) -> Answer:
        failure: ToolServerError | None = None
        deadline, wait = math.inf, max(seconds, definition.request_timeout + CLEANING)
        for attempt in itertools.count():
            try:
                async with self._shared.lease(
                    definition, key=definition.pool_key, seconds=wait
                ) as session:
                    now = time.monotonic()
                    deadline = min(deadline, now + seconds)
                    if failure is not None and now >= deadline:
                        raise failure
                    try:
                        answer = await ask(session, max(deadline - now, 0.001))
                    except ToolServerError as error:
                        self._note(definition, error)
                        pause = pause_after(error, attempt)
                        wait = deadline - time.monotonic() - pause
                        again = attempt < self._max_retries and wait > 0
                        if not (again and _may_repeat(error, repeatable)):
                            raise
                        failure = error.with_traceback(None)
                    else:
                        self._note(definition, None)
                        return answer
            except ToolServerBusy as busy:
                raise failure or busy from None
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    def _note(self, definition: ServerDefinition, error: ToolServerError | None) -> None:
        identity = (definition.environment_id, definition.name)
        health = self._health.pop(identity, None) or _Health()
        # Last in the order of the dict, so that the first is the one not heard of for longest.
        self._health[identity] = health
        if len(self._health) > KNOWN_SERVERS:
            del self._health[next(iter(self._health))]
        if error is None:
            health.up, health.last_error = True, ""
            return
        health.last_error = error.message
        if isinstance(error, ToolServerUnavailable | ToolCallLost):
            health.up = False


def _may_repeat(error: ToolServerError, repeatable: bool) -> bool:
    return isinstance(error, SessionGone) or (
        repeatable and isinstance(error, ToolCallLost | TurnedAway)
    )


def _contained(sink: StderrSink) -> StderrSink:
    def pass_on(definition: ServerDefinition, line: str) -> None:
        try:
            sink(definition, line)
        except Exception:
            logger.exception("the receiver of tool servers' standard error failed")

    return pass_on
