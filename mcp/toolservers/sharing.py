"""Who gets which session: a bounded number of them, shared, evicted and closed when idle."""

import asyncio
import copy
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from toolservers.definition import ServerDefinition
from toolservers.errors import ToolServerBusy, ToolServerError, ToolServerUnavailable
from toolservers.sessions import Session, Surroundings
from toolservers.turns import Turns, Waiter

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
class _Opening:
    """A session that is being opened, and takes up room already."""

    key: str
    task: asyncio.Task[Session]
    ending: bool = False


class SharedSessions:
    """At most ``size`` sessions; callers beyond that wait, and their servers take turns.

    Sessions over HTTP are shared by any number of callers, others are leased to one at a time. A
    server may have all of them while no other is waited for. As soon as one is, it gets the next
    that is given back, or one that is only being opened for a server that has several. A shared
    one might never be given back by all: it gets no more callers while a server that has none is
    in need of its room.
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
        self._turns = Turns()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def definitions(self) -> list[ServerDefinition]:
        """The definition of each session there is."""
        return [session.definition for session in self._all()]

    async def close(self) -> None:
        """Turn waiting callers away and end every session, and every opening."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for waiter in self._turns:
            if not waiter.session.done():
                waiter.session.set_exception(closing_error(waiter.definition))
        opening = [item.task for item in self._openings]
        for task in opening:
            task.cancel()
        await asyncio.gather(
            *opening, *(one.close() for one in self._all()), return_exceptions=True
        )

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
        if session.in_use == 0 and (session.giving_way or not session.usable):
            session.end()
        self._serve()
        self._sweep_later()

    async def _acquire(self, definition: ServerDefinition, key: str, seconds: float) -> Session:
        if self._closed:
            raise closing_error(definition)
        waiter = Waiter(
            key=key,
            definition=definition,
            session=asyncio.get_running_loop().create_future(),
        )
        self._turns.join(waiter)
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
            self._turns.leave(waiter)
            if waiter.session.cancelled():
                # A session that gave way for this caller need not any more.
                self._serve()

    def _serve(self) -> None:
        """Give waiting callers, in turn, the sessions there are; make room for the rest."""
        while not self._closed:
            held, stuck = self._serve_in_turn()
            if not self._let_give_way(held, sum(held[key] == 0 for key in stuck)):
                return

    def _serve_in_turn(self) -> tuple[Counter[str], set[str]]:
        """How many sessions each key has now or soon, and the keys that want more in vain."""
        opening = Counter(item.key for item in self._openings if not item.ending)
        held = opening + Counter(one.key for one in self._all() if one.in_use)
        leaving = sum(one.ending for one in self._all())
        leaving += sum(item.ending for item in self._openings)
        stuck: set[str] = set()

        def rank(key: str) -> tuple[int, ...]:
            # Between servers that have as many, no process is ended to start another.
            return held[key], held[key] > 0 and self._available(key) is None

        for waiter in self._turns.in_turn(rank, stuck):
            key, leased = waiter.key, waiter.definition.transport == "stdio"
            if (session := self._available(key)) is not None:
                held[key] += not session.in_use
                session.in_use += 1
                self._turns.serve(waiter, session)
            elif opening[key] > 0:
                opening[key] -= leased
            elif self._taken() < self._size:
                self._start_opening(waiter)
                held[key] += 1
                opening[key] += not leased
            elif leaving > 0 or self._make_room(opening, alone=held[key] == 0):
                leaving = max(leaving - 1, 0)
                held[key] += 1
                opening[key] += not leased
            else:
                stuck.add(key)
        return held, stuck

    def _let_give_way(self, held: Counter[str], number: int) -> bool:
        """Have so many shared sessions give way, if there are; true if others need not any more.

        Of the keys that hold most, the session that has been open longest is the first.
        """
        giving = [one for one in self._all() if one.giving_way and not one.ending]
        for session in giving[number:]:
            session.giving_way = False
        if len(giving) < number:
            shared = [one for one in self._all() if one.usable and not one.exclusive]
            more = [one for one in shared if one.in_use and not one.giving_way]
            more.sort(key=lambda session: -held[session.key])
            for session in more[: number - len(giving)]:
                session.giving_way = True
        return len(giving) > number

    def _make_room(self, opening: Counter[str], *, alone: bool) -> bool:
        """End a session that nobody uses; for one who has none ``alone``, one being opened."""
        if (idle := self._longest_idle()) is not None:
            idle.end()
            return True
        beginnings = Counter(item.key for item in self._openings if not item.ending)
        key, number = next(iter(beginnings.most_common(1)), ("", 0))
        if not alone or number < 2:
            return False
        item = next(item for item in self._openings if item.key == key and not item.ending)
        item.ending = True
        opening[key] -= 1
        item.task.cancel()
        return True

    def _all(self) -> list[Session]:
        return [session for group in self._sessions.values() for session in group]

    def _taken(self) -> int:
        return len(self._openings) + sum(map(len, self._sessions.values()))

    def _available(self, key: str) -> Session | None:
        for session in self._sessions.get(key, ()):
            taken = session.giving_way or (session.exclusive and session.in_use)
            if session.usable and not taken:
                return session
        return None

    def _longest_idle(self) -> Session | None:
        idle = [one for one in self._all() if one.usable and one.in_use == 0]
        return min(idle, key=lambda session: session.idle_since, default=None)

    def _start_opening(self, waiter: Waiter) -> None:
        definition, key = waiter.definition, waiter.key
        opening = _Opening(key=key, task=asyncio.create_task(self._connected(definition, key)))
        self._openings.add(opening)
        # By the task's end and not in the task: that may be cancelled before it has begun.
        opening.task.add_done_callback(lambda _: self._opened(opening, definition))

    def _opened(self, opening: _Opening, definition: ServerDefinition) -> None:
        self._openings.discard(opening)
        try:
            session = opening.task.result()
        except asyncio.CancelledError:
            pass
        except ToolServerError as error:
            self._note(definition, error)
            self._disappoint(opening.key, error, all_of_them=definition.transport != "stdio")
        else:
            self._sessions.setdefault(opening.key, []).append(session)
            self._note(definition, None)
            if self._closed:
                session.end(at_once=True)
        self._serve()
        self._sweep_later()

    async def _connected(self, definition: ServerDefinition, key: str) -> Session:
        deadline = time.monotonic() + definition.request_timeout
        before: ToolServerError | None = None
        for attempt in itertools.count():
            session = Session(definition, self._surroundings, self._forget, key=key)
            try:
                await session.open(timeout=deadline - time.monotonic())
            except ToolServerError as error:
                pause = pause_after(error, attempt)
                out_of_time = time.monotonic() + pause >= deadline
                if error.permanent or attempt >= self._max_retries or out_of_time:
                    # A last try that was cut short knows less than the one before.
                    raise (out_of_time and before) or error from None
                before = error.with_traceback(None)
                await asyncio.sleep(pause)
            else:
                return session
        raise AssertionError("unreachable")

    def _disappoint(self, key: str, error: ToolServerError, *, all_of_them: bool) -> None:
        for waiter in self._turns.of(key):
            if not waiter.session.done():
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
        for session in self._all():
            if session.in_use == 0 and session.idle_since <= before:
                session.end()
        self._sweep_later()
