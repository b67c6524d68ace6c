"""Who waits for a session, and who comes next: servers take turns, and none keeps out others."""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from toolservers.definition import ServerDefinition
from toolservers.sessions import Session

REMEMBERED = 1_000
"""Servers whose last turn is known; of others it was longer ago."""


@dataclass(eq=False, kw_only=True)
class Waiter:
    """A caller in the queue for a session; ``key`` is under which the session may be shared."""

    key: str
    definition: ServerDefinition
    session: asyncio.Future[Session]


class Turns:
    """The waiting callers. Those of one key are served in order."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Waiter]] = {}
        self._last: dict[str, int] = {}
        self._clock = itertools.count(1)

    def __iter__(self) -> Iterator[Waiter]:
        return itertools.chain.from_iterable(self._queues.values())

    def join(self, waiter: Waiter) -> None:
        self._queues.setdefault(waiter.key, deque()).append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Forget a waiter, who may have been served or have left already."""
        queue = self._queues.get(waiter.key, deque())
        if waiter in queue:
            queue.remove(waiter)
        if not queue:
            self._queues.pop(waiter.key, None)

    def of(self, key: str) -> Iterable[Waiter]:
        """The callers that wait for a session of this key, in order."""
        return tuple(self._queues.get(key, ()))

    def serve(self, waiter: Waiter, session: Session) -> None:
        """Give the waiter a session: it was its key's turn."""
        self.leave(waiter)
        self._last.pop(waiter.key, None)
        self._last[waiter.key] = next(self._clock)
        if len(self._last) > REMEMBERED:
            del self._last[next(iter(self._last))]
        waiter.session.set_result(session)

    def in_turn(
        self, rank: Callable[[str], tuple[int, ...]], stuck: Collection[str]
    ) -> Iterator[Waiter]:
        """Each waiter once: of the key with the lowest rank; among equals, the longest not served.

        Whoever asks for the next waiter may have changed the ranks, and put keys that nothing more
        can be done for into ``stuck``.
        """
        ahead = {key: deque(queue) for key, queue in self._queues.items()}
        while ahead:
            key = min(ahead, key=lambda key: (*rank(key), self._last.get(key, 0)))
            if key in stuck or not ahead[key]:
                del ahead[key]
            elif not (waiter := ahead[key].popleft()).session.done():
                yield waiter
