"""The process's one subscription to what runs do."""

import asyncio
from urllib.parse import urlsplit

import redis.asyncio

from runs.bus import channel, ended
from runs.hub import Hub
from station.config import current


def _url() -> str:
    return current().redis.url.get_secret_value()


async def test_what_is_published_once_the_follower_is_in_is_heard() -> None:
    hub = Hub(_url())
    async with redis.asyncio.Redis.from_url(_url()) as client:
        for run_id in range(20):
            async with hub.follow(run_id) as first, hub.follow(run_id) as second:
                assert await client.publish(channel(run_id), "x") == 1
                async with asyncio.timeout(5):
                    assert (await first.get(), await second.get()) == ("x", "x")
    await hub.close()


async def test_a_connection_that_was_lost_tells_of_a_gap() -> None:
    hub = Hub(_url())
    async with hub.follow(7) as news, redis.asyncio.Redis.from_url(_url()) as client:
        mine = urlsplit(_url()).path.lstrip("/")
        for connection in await client.client_list(_type="pubsub"):
            if connection["db"] == mine:
                await client.client_kill(connection["addr"])
        async with asyncio.timeout(5):
            assert await news.get() is None
            await client.publish(channel(7), "x")
            assert await news.get() == "x"
    await hub.close()


async def test_followers_that_come_and_go_keep_one_connection() -> None:
    hub = Hub(_url())
    for _ in range(3):
        async with hub.follow(8), redis.asyncio.Redis.from_url(_url()) as client:
            assert await client.publish(channel(8), "x") == 1
        async with hub.follow(9):
            pass
    await hub.close()


async def test_without_valkey_a_follower_goes_on_all_the_same() -> None:
    hub = Hub("redis://127.0.0.1:1/0")
    async with asyncio.timeout(5), hub.follow(7) as news:
        assert news.empty()
    await hub.close()


async def test_a_hub_may_be_closed_at_any_point_of_its_start() -> None:
    for turns in range(30):
        hub = Hub(_url())
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await hub.close()


async def test_a_task_that_swallows_a_cancellation_ends_at_the_next() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.sleep(60)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await ended(task)
    assert task.cancelled()
    assert swallowed == 2
