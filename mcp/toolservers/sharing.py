"""Who gets which session: a bounded number of them, shared, evicted and closed when idle."""

import asyncio
import copy
import itertools
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from toolservers.definition import ServerDefinition
from toolservers.errors import ToolServerBusy, ToolServerError, ToolServerUnavailable
from toolservers.sessions import Session, Surroundings

BACKOFF = 0.1
"""Seconds before the first repetition; doubled each time, times a random 0.5 to 1.5."""
Note = Callable[[ServerDefinition, ToolServerError | None], None]


def pause_after(error: ToolServerError, attempt: int) -> float:
    """Seconds to wait after the failed ``attempt`` (from 0): longer each time, or as asked for."""
    backoff = BACKOFF * float(2**attempt) * random.uniform(0.5, 1.5)  # noqa: S311
    return max(backoff, error.retry_after or 0.0)


def closing_error(definition: ServerDefinition) -> ToolServerUnavailable:
    """What callers hear when the pool is closed."""
    return ToolServerUnavailable(
        f"Tool server {definition.name}: this worker is shutting down.",
    )


@dataclass(eq=False, kw_only=True)
class _Waiter:
    """A caller in the queue for a session."""

    key: str
    definition: ServerDefinition
    session: asyncio.Future[Session]


@dataclass(eq=False, kw_only=True)
class _Opening:
    """A session that is being opened, and takes up room already."""

    key: str
    task: asyncio.Task[None] | None = field(default=None)


class SharedSessions:
    """At most ``size`` sessions; callers beyond that wait in order.

    Sessions over HTTP are shared by any number of callers, others are leased to one at a time.
    ``note`` hears of every connection made, or not made.
    """

    def __init__(
        self,
        *,
        size: int,
        max_retries: int,
        idle_seconds: float,
        surroundings: Surroundings,
        note: Note,
    ) -> None:
        self._size = size
        self._max_retries = max_retries
        self._idle_seconds = idle_seconds
        self._surroundings = surroundings
        self._note = note
        self._sessions: dict[str, list[Session]] = {}
        self._openings: set[_Opening] = set()
        self._waiters: deque[_Waiter] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def definitions(self) -> list[ServerDefinition]:
        """The definition of each session there is."""
        return [session.definition for group in self._sessions.values() for session in group]

    async def close(self) -> None:
        """Turn waiting callers away and end every session, and every opening."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for waiter in self._waiters:
            if not waiter.session.done():
                waiter.session.set_exception(closing_error(waiter.definition))
        self._waiters.clear()
        opening = [item.task for item in self._openings if item.task is not None]
        for task in opening:
            task.cancel()
        sessions = [session for group in self._sessions.values() for session in group]
        await asyncio.gather(*opening, *(one.close() for one in sessions), return_exceptions=True)

    @asynccontextmanager
    async def lease(
        self, definition: ServerDefinition, *, key: str, seconds: float
    ) -> AsyncIterator[Session]:
        """A session for ``definition`` shared under ``key``, waited for at most ``seconds``.

        Raises:
            ToolServerUnavailable, ToolServerMisbehaved: there is none to be had.
        """
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
            raise closing_error(definition)
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
                pause = pause_after(error, attempt)
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
