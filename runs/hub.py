"""The process's one subscription to what runs do, shared by all who follow one here.

Best effort, never the record: a follower that is told of a gap reads the journal.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import redis.asyncio
import structlog
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from runs.bus import channel, ended

News = asyncio.Queue[str | None]
"""A run's messages (:mod:`runs.bus`); ``None`` means that some may have been lost."""

_log = structlog.get_logger(__name__)
_OWN_CHANNEL = "station:hub"
_QUEUE = 512
_CONFIRMED_WITHIN = 1.0
_RECONNECT = 1.0
_NO_RETRY = Retry(NoBackoff(), 0)


class _Channel:
    """Who follows one run, and whether Valkey has confirmed the subscription."""

    def __init__(self) -> None:
        self.followers: set[News] = set()
        self.confirmed = asyncio.Event()

    def give(self, message: str | None) -> None:
        for queue in self.followers:
            given = message
            if queue.full():
                queue.get_nowait()
                given = None  # a slow follower reads the journal instead
            queue.put_nowait(given)


class Hub:
    """One pub/sub connection for all followers of this process and loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._channels: dict[str, _Channel] = {}
        self._changed: asyncio.Queue[str] = asyncio.Queue()
        """Names of channels that got their first follower or lost their last."""
        self._task = asyncio.get_running_loop().create_task(self._listen(), name="run news")

    @contextlib.asynccontextmanager
    async def follow(self, run_id: int) -> AsyncIterator[News]:
        """The run's news from now on: whoever reads the journal inside misses nothing.

        Without Valkey it goes on after a second; the news then come when Valkey is back, behind a
        ``None``.
        """
        name = channel(run_id)
        queue: News = asyncio.Queue(maxsize=_QUEUE)
        followed = self._channels.setdefault(name, _Channel())
        if not followed.followers:
            self._changed.put_nowait(name)
        followed.followers.add(queue)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CONFIRMED_WITHIN):
                    await followed.confirmed.wait()
            yield queue
        finally:
            followed.followers.discard(queue)
            if not followed.followers:
                del self._channels[name]
                self._changed.put_nowait(name)

    async def close(self) -> None:
        """End the subscription."""
        await ended(self._task)

    async def _listen(self) -> None:
        while True:
            try:
                await self._connected()
            except (RedisError, OSError) as error:
                _log.debug("bus_unavailable", problem=str(error))
            await asyncio.sleep(_RECONNECT)

    async def _connected(self) -> None:
        """Listen until the connection is lost. This task alone makes and ends connections."""
        client = redis.asyncio.Redis.from_url(
            self._url, socket_connect_timeout=1, socket_keepalive=True, retry=_NO_RETRY
        )
        async with client, client.pubsub() as pubsub:
            self._changed = asyncio.Queue()
            await pubsub.subscribe(_OWN_CHANNEL, *self._channels)
            subscribing = asyncio.create_task(self._subscribe(pubsub))
            try:
                async for message in pubsub.listen():
                    self._hear(message)
            finally:
                await ended(subscribing)

    async def _subscribe(self, pubsub: PubSub) -> None:
        """Follow what the followers want; a connection that is lost is the listener's business."""
        while True:
            name = await self._changed.get()
            with contextlib.suppress(RedisError, OSError):
                if name in self._channels:
                    await pubsub.subscribe(name)
                else:
                    await pubsub.unsubscribe(name)

    def _hear(self, message: dict[str, Any]) -> None:
        followed = self._channels.get(message["channel"].decode())
        if followed is None:
            return
        if message["type"] == "message":
            followed.give(message["data"].decode())
        elif message["type"] == "subscribe":
            if followed.confirmed.is_set():
                followed.give(None)  # the connection was lost, and with it perhaps news
            followed.confirmed.set()
