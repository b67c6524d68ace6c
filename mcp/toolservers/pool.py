"""The sessions one process keeps with tool servers, shared by every run in it.

A session belongs to one definition (environment and every resolved value: see
:attr:`ServerDefinition.pool_key`). HTTP sessions carry many calls at once; stdio sessions, which
are processes, one at a time, so that giving up a call can kill the process without harm to others.
"""

import asyncio
import copy
import itertools
import logging
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from toolservers.definition import (
    JsonObject,
    ServerDefinition,
    ServerReport,
    ServerState,
    ToolResult,
    ToolSpec,
)
from toolservers.errors import (
    SessionGone,
    ToolCallLost,
    ToolCallTimeout,
    ToolServerBusy,
    ToolServerError,
    ToolServerUnavailable,
)
from toolservers.http import quiet_sdk_logs
from toolservers.links import Limits, StderrSink
from toolservers.processes import Guard
from toolservers.sessions import Session, Surroundings

logger = logging.getLogger(__name__)

BACKOFF = 0.1
"""Seconds before the first repetition; doubled each time, times a random 0.5 to 1.5."""
CLEANING = 3.0
"""Seconds beyond ``request_timeout`` in which a failed connection is cleaned up."""
KNOWN_SERVERS = 1_000
Answer = TypeVar("Answer")


@dataclass(eq=False, kw_only=True)
class _Waiter:
    """A caller in the queue for a session."""

    key: str
    definition: ServerDefinition
    session: asyncio.Future[Session]


@dataclass(kw_only=True)
class _Health:
    up: bool = False
    last_error: str = ""


@dataclass(eq=False, kw_only=True)
class _Opening:
    key: str
    task: asyncio.Task[None] | None = field(default=None)


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
        self._size = size
        self._max_retries = max_retries
        self._idle_seconds = idle_seconds
        self._guard = Guard()
        self._surroundings = Surroundings(
            limits=Limits(
                output_limit=output_limit,
                passed_environment=tuple(passed_environment),
                allowed_commands=tuple(allowed_commands),
            ),
            guard=self._guard,
            sink=None if on_stderr is None else _contained(on_stderr),
        )
        self._sessions: dict[str, list[Session]] = {}
        self._openings: set[_Opening] = set()
        self._waiters: deque[_Waiter] = deque()
        self._health: dict[tuple[int, str], _Health] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._probes = itertools.count()
        self._closed = False

    async def list_tools(self, definition: ServerDefinition) -> tuple[ToolSpec, ...]:
        """Ask the server for its tools; repeated like a repeatable call.

        Raises:
            ToolServerError: a subclass says what went wrong.
        """
        seconds = definition.request_timeout

        async def ask(session: Session, remaining: float) -> tuple[ToolSpec, ...]:
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
    ) -> ToolResult:
        """Call a tool.

        ``timeout`` seconds run from the first sending to the answer, repetitions included; waiting
        for a session and connecting come before it and have their own bounds. A call whose fate is
        unknown is sent again only if ``repeatable``; one that certainly was not sent, always.
        Cancelling tells an HTTP server and kills a stdio server's process group.

        Raises:
            ToolServerUnavailable: nothing was sent (not reachable, busy, command not allowed).
            ToolCallTimeout, ToolCallLost: sent, but no answer: the outcome is unknown.
            ToolRefused: the server answered with a protocol error.
            ToolServerMisbehaved: it broke the protocol.
        """

        async def ask(session: Session, remaining: float) -> ToolResult:
            return await session.call(tool, arguments, timeout=remaining, meta=meta)

        return await self._send(definition, ask, seconds=timeout, repeatable=repeatable)

    async def probe(self, definition: ServerDefinition) -> ServerReport:
        """Connect anew, list the tools, close again.

        Raises:
            ToolServerError: a subclass says what went wrong.
        """
        key = f"{definition.pool_key}:probe:{next(self._probes)}"
        wait = definition.request_timeout + CLEANING
        async with self._lease(definition, key=key, seconds=wait) as session:
            try:
                started = time.monotonic()
                tools = await session.list_tools(timeout=definition.request_timeout)
                name, version = session.server
                return ServerReport(
                    protocol_version=session.protocol_version,
                    server_name=name,
                    server_version=version,
                    tools=tools,
                    connect_seconds=session.opened_in,
                    latency=time.monotonic() - started,
                )
            finally:
                session.end()

    def states(self) -> list[ServerState]:
        """The servers this process has dealt with, and how they were when last heard of."""
        counts = Counter(
            (session.definition.environment_id, session.definition.name)
            for group in self._sessions.values()
            for session in group
        )
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
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for waiter in self._waiters:
            if not waiter.session.done():
                waiter.session.set_exception(_closing(waiter.definition))
        self._waiters.clear()
        opening = [item.task for item in self._openings if item.task is not None]
        for task in opening:
            task.cancel()
        sessions = [session for group in self._sessions.values() for session in group]
        await asyncio.gather(*opening, *(one.close() for one in sessions), return_exceptions=True)
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
        deadline: float | None = None
        wait = max(seconds, definition.request_timeout + CLEANING)
        for attempt in itertools.count():
            async with self._lease(definition, key=definition.pool_key, seconds=wait) as session:
                now = time.monotonic()
                deadline = deadline or now + seconds
                try:
                    answer = await ask(session, max(deadline - now, 0.001))
                except ToolServerError as error:
                    again = isinstance(error, SessionGone) or (
                        repeatable and isinstance(error, ToolCallLost)
                    )
                    self._note(definition, error)
                    if not again or attempt >= self._max_retries:
                        raise
                else:
                    self._note(definition, None)
                    return answer
            pause = _backoff(attempt)
            if time.monotonic() + pause >= deadline:
                raise ToolCallTimeout(
                    f"Tool server {definition.name} did not answer within {seconds:g} s.",
                    outcome_unknown=repeatable,
                )
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

    # Sessions: taking and giving back

    @asynccontextmanager
    async def _lease(
        self, definition: ServerDefinition, *, key: str, seconds: float
    ) -> AsyncIterator[Session]:
        session = await self._acquire(definition, key, seconds)
        try:
            yield session
        finally:
            self._give_back(session)

    def _give_back(self, session: Session) -> None:
        session.in_use -= 1
        session.idle_since = time.monotonic()
        if session.in_use == 0 and not session.usable:
            session.end()
        self._serve()
        self._sweep_later()

    async def _acquire(self, definition: ServerDefinition, key: str, seconds: float) -> Session:
        if self._closed:
            raise _closing(definition)
        waiter = _Waiter(
            key=key,
            definition=definition,
            session=asyncio.get_running_loop().create_future(),
        )
        self._waiters.append(waiter)
        self._serve()
        try:
            done, _ = await asyncio.wait({waiter.session}, timeout=seconds)
            if done:
                return waiter.session.result()
            waiter.session.cancel()
            raise ToolServerBusy(
                f"Tool server {definition.name}: no session became free within {seconds:g} s.",
                fix="Raise mcp.connection_pool_size, or add workers.",
            )
        except asyncio.CancelledError:
            given = waiter.session
            if given.done() and not given.cancelled() and given.exception() is None:
                # It was given in the moment the caller gave up.
                self._give_back(given.result())
            given.cancel()
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _serve(self) -> None:
        """Give waiting callers, in order, the sessions there are; make room for the rest."""
        if self._closed:
            return
        opening = Counter(item.key for item in self._openings)
        closing = sum(session.ending for group in self._sessions.values() for session in group)
        left: deque[_Waiter] = deque()
        for waiter in self._waiters:
            if waiter.session.done():
                continue
            session = self._available(waiter.key)
            if session is not None:
                session.in_use += 1
                waiter.session.set_result(session)
                continue
            left.append(waiter)
            if opening[waiter.key] > 0:
                if waiter.definition.transport == "stdio":
                    opening[waiter.key] -= 1
            elif self._taken() < self._size:
                self._start_opening(waiter)
                if waiter.definition.transport != "stdio":
                    opening[waiter.key] += 1
            elif closing > 0:
                closing -= 1
            elif (idle := self._longest_idle()) is not None:
                idle.end()
        self._waiters = left

    def _taken(self) -> int:
        return len(self._openings) + sum(map(len, self._sessions.values()))

    def _available(self, key: str) -> Session | None:
        for session in self._sessions.get(key, ()):
            if session.usable and not (session.exclusive and session.in_use):
                return session
        return None

    def _longest_idle(self) -> Session | None:
        idle = [
            session
            for group in self._sessions.values()
            for session in group
            if session.usable and session.in_use == 0
        ]
        return min(idle, key=lambda session: session.idle_since, default=None)

    def _start_opening(self, waiter: _Waiter) -> None:
        opening = _Opening(key=waiter.key)
        self._openings.add(opening)
        opening.task = asyncio.create_task(self._open(opening, waiter.definition))

    async def _open(self, opening: _Opening, definition: ServerDefinition) -> None:
        error: ToolServerError | None = None
        try:
            session = await self._connected(definition, opening.key)
            self._sessions.setdefault(opening.key, []).append(session)
            self._note(definition, None)
        except ToolServerError as failure:
            error = failure
            self._note(definition, error)
        finally:
            self._openings.discard(opening)
        if error is not None:
            self._disappoint(opening.key, error, all_of_them=definition.transport != "stdio")
        self._serve()
        self._sweep_later()

    async def _connected(self, definition: ServerDefinition, key: str) -> Session:
        deadline = time.monotonic() + definition.request_timeout
        for attempt in itertools.count():
            session = Session(definition, self._surroundings, self._forget, key=key)
            try:
                await session.open(timeout=deadline - time.monotonic())
            except ToolServerError as error:
                pause = _backoff(attempt)
                out_of_time = time.monotonic() + pause >= deadline
                if error.permanent or attempt >= self._max_retries or out_of_time:
                    raise
                await asyncio.sleep(pause)
            else:
                return session
        raise AssertionError("unreachable")

    def _disappoint(self, key: str, error: ToolServerError, *, all_of_them: bool) -> None:
        for waiter in self._waiters:
            if waiter.key == key and not waiter.session.done():
                waiter.session.set_exception(copy.copy(error))
                if not all_of_them:
                    return

    def _forget(self, session: Session) -> None:
        group = self._sessions.get(session.key, [])
        if session in group:
            group.remove(session)
            if not group:
                del self._sessions[session.key]
            self._serve()

    # Idle sessions

    def _sweep_later(self) -> None:
        if self._sweeper is None and not self._closed and self._sessions:
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(self._idle_seconds / 4, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        before = time.monotonic() - self._idle_seconds
        for group in self._sessions.values():
            for session in group:
                if session.in_use == 0 and session.idle_since <= before:
                    session.end()
        self._sweep_later()


def _backoff(attempt: int) -> float:
    return float(BACKOFF * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311


def _closing(definition: ServerDefinition) -> ToolServerUnavailable:
    return ToolServerUnavailable(
        f"Tool server {definition.name}: this worker is shutting down.",
    )


def _contained(sink: StderrSink) -> StderrSink:
    def pass_on(definition: ServerDefinition, line: str) -> None:
        try:
            sink(definition, line)
        except Exception:
            logger.exception("the receiver of tool servers' standard error failed")

    return pass_on
