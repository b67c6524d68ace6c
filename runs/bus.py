"""Live news about runs over Valkey pub/sub: best effort, never the record.

Every journaled event and every token delta is published to the run's channel. Who listens may
miss some: followers number what they get by ``seq`` and fill gaps from the journal. A
cancellation is published too, so that a worker hears of it before its next heartbeat.
"""

import asyncio
import contextlib
import functools
import json
from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from runs.entries import Event
from station.config import current

_log = structlog.get_logger(__name__)
_LARGEST = 256 * 1024
_RECONNECT = 1.0
_ASKED_AGAIN = 0.1


def channel(run_id: int) -> str:
    """The pub/sub channel of a run."""
    return f"station:{_database(current().redis.url.get_secret_value())}:run:{run_id}"


def cancellations() -> str:
    """The channel of all cancellations."""
    return f"station:{_database(current().redis.url.get_secret_value())}:cancelled"


@functools.cache
def _database(url: str) -> int:
    """The number of the Valkey database: channels, unlike keys, are common to all of them.

    Two Stations that share a server, each in its own database, must not hear each other.
    """
    parsed = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]
    return int(parsed.get("db", 0))


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel ``task`` until it is over: a client in the middle of connecting may swallow one."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_ASKED_AGAIN)


def event_message(event: Event) -> str:
    """An event as followers get it; a very large one is announced by its number alone."""
    message = json.dumps(event_json(event), default=str)
    if len(message) > _LARGEST:
        message = json.dumps({"seq": event.seq})
    return message


def event_json(event: Event) -> dict[str, Any]:
    """The public form of an event, the same on every door."""
    return {
        "seq": event.seq,
        "kind": event.kind.value,
        "at": event.at.isoformat(),
        "payload": dict(event.payload),
    }


class Publisher:
    """Publishes from the worker's loop without ever making a run wait or fail."""

    def __init__(self) -> None:
        self._client = redis.asyncio.Redis.from_url(
            current().redis.url.get_secret_value(), socket_connect_timeout=1, socket_timeout=2
        )
        self._queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue(maxsize=10_000)
        self._task = asyncio.get_running_loop().create_task(self._pump(), name="bus")

    def event(self, run_id: int, event: Event) -> None:
        """Tell followers of a journaled event."""
        self._put(run_id, event_message(event))

    def delta(self, run_id: int, step: int, text: str) -> None:
        """Tell followers what the model is saying; never journaled."""
        self._put(run_id, json.dumps({"delta": text, "step": step}))

    def _put(self, run_id: int, message: str) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait((channel(run_id), message))

    async def _pump(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < 200 and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            try:
                pipeline = self._client.pipeline(transaction=False)
                for target, message in batch:
                    pipeline.publish(target, message)
                await pipeline.execute()
            except (RedisError, OSError) as error:
                _log.debug("bus_unavailable", problem=str(error))
                await asyncio.sleep(_RECONNECT)

    async def close(self) -> None:
        await ended(self._task)
        await self._client.aclose()


class CancelListener:
    """Calls ``on_cancel(run_id)`` for each cancellation published anywhere.

    It is a hint: whoever gets it looks at the run's row.
    """

    def __init__(self, on_cancel: Callable[[int], None]) -> None:
        self._on_cancel = on_cancel
        self._task = asyncio.get_running_loop().create_task(self._listen(), name="cancellations")

    async def _listen(self) -> None:
        url = current().redis.url.get_secret_value()
        while True:
            client = redis.asyncio.Redis.from_url(url, socket_connect_timeout=1)
            try:
                async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(cancellations())
                    async for message in pubsub.listen():
                        self._on_cancel(int(message["data"]))
            except (RedisError, OSError, ValueError) as error:
                _log.debug("bus_unavailable", problem=str(error))
            finally:
                await client.aclose()
            await asyncio.sleep(_RECONNECT)

    async def close(self) -> None:
        await ended(self._task)


def announce(events: dict[int, Event], *, cancelled: bool = False) -> None:
    """Publish from a synchronous door after its commit. A Valkey that is away is no error."""
    try:
        client = _client()
        pipeline = client.pipeline(transaction=False)
        for run_id, event in events.items():
            pipeline.publish(channel(run_id), event_message(event))
            if cancelled:
                pipeline.publish(cancellations(), str(run_id))
        pipeline.execute()
    except (RedisError, OSError) as error:
        _log.debug("bus_unavailable", problem=str(error))


def length(name: str) -> int:
    """How long a list in Valkey is; 0 when that is away."""
    try:
        return int(_client().llen(name))
    except (RedisError, OSError):
        return 0


_shared: redis.Redis | None = None


def _client() -> redis.Redis:
    global _shared  # noqa: PLW0603 - one connection pool a process
    if _shared is None:
        _shared = redis.Redis.from_url(
            current().redis.url.get_secret_value(), socket_connect_timeout=1, socket_timeout=2
        )
    return _shared
