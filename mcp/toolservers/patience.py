"""How long a caller waits for an answer, told to the transport that reads it.

When a caller gives up a request, the SDK tells the server but may go on reading the answer, which
need not ever end. The transport runs in the context of the request, and finds its caller here.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar


class Patience:
    """A caller's, for one request. What has no caller, as a handshake, waits until it is ended."""

    def __init__(self) -> None:
        self._lost = False
        self._waits: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def waits(self) -> AsyncIterator[None]:
        """A piece of waiting: ends in :class:`TimeoutError` when the caller gives up."""
        async with asyncio.timeout(0 if self._lost else None) as wait:
            self._waits.add(wait)
            try:
                yield
            finally:
                self._waits.discard(wait)

    def lose(self) -> None:
        """The caller has given up: nothing that waits for this request goes on."""
        if not self._lost:
            self._lost = True
            now = asyncio.get_running_loop().time()
            for wait in self._waits:
                wait.reschedule(now)


_current: ContextVar[Patience | None] = ContextVar("patience", default=None)


def have(patience: Patience) -> None:
    """What this context asks for is waited for with ``patience``."""
    _current.set(patience)


def current() -> Patience:
    """The patience of the caller in whose context this runs."""
    return _current.get() or Patience()
