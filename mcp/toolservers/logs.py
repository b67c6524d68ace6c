"""What stdio tool servers write to stderr, kept for people: the last lines, in Valkey.

Best effort: it helps to find out why a server does not start, and nothing depends on it.
"""

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass

import redis
import redis.asyncio
from redis.exceptions import RedisError

from toolservers.definition import ServerDefinition

_KEPT_LINES = 1000
_KEPT_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True, kw_only=True)
class StderrLine:
    """One line; ``at`` is Unix time in seconds."""

    at: float
    line: str


def _key(server_id: int) -> str:
    return f"station:toolserver:{server_id}:stderr"


class StderrLog:
    """Takes lines from the worker's loop without ever making it wait."""

    def __init__(self, url: str) -> None:
        self._client = redis.asyncio.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=2)
        self._queue: asyncio.Queue[tuple[int, str]] = asyncio.Queue(maxsize=1000)
        self._task = asyncio.get_running_loop().create_task(self._pump(), name="stderr log")

    def write(self, definition: ServerDefinition, line: str) -> None:
        """Keep a line; while Valkey is slow or away, lines beyond a thousand are dropped."""
        with contextlib.suppress(asyncio.QueueFull):
            entry = json.dumps({"at": time.time(), "line": line})
            self._queue.put_nowait((definition.server_id, entry))

    async def _pump(self) -> None:
        while True:
            server_id, entry = await self._queue.get()
            key = _key(server_id)
            pipeline = self._client.pipeline(transaction=False)
            pipeline.rpush(key, entry)
            pipeline.ltrim(key, -_KEPT_LINES, -1)
            pipeline.expire(key, _KEPT_SECONDS)
            with contextlib.suppress(RedisError, OSError):
                await pipeline.execute()

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._client.aclose()


def read_stderr(url: str, server_id: int, *, lines: int = 100) -> list[StderrLine]:
    """The last ``lines`` lines a server wrote on any host, oldest first.

    Raises:
        redis.exceptions.RedisError: Valkey is away.
    """
    with redis.Redis.from_url(url, socket_connect_timeout=2, socket_timeout=5) as client:
        entries = client.lrange(_key(server_id), -lines, -1)
    return [StderrLine(**json.loads(entry)) for entry in entries]
