"""Whether this process is on its way out: it still answers, and asks to be given no more."""

import asyncio


class Draining:
    """A flag that coroutines of any loop may wait for. It is raised once and never lowered."""

    def __init__(self) -> None:
        self._begun = False
        self._waiting: set[asyncio.Future[None]] = set()

    def is_set(self) -> bool:
        """Whether draining has begun."""
        return self._begun

    def set(self) -> None:
        """Begin draining. Safe from any thread and from signal handlers of a loop."""
        self._begun = True
        for future in tuple(self._waiting):
            future.get_loop().call_soon_threadsafe(_resolve, future)

    async def wait(self) -> None:
        """Return once draining has begun."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            if not self._begun:
                await future
        finally:
            self._waiting.discard(future)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


draining = Draining()
"""This process."""
