"""The flag that a process is on its way out."""

import asyncio

from station.observe.drain import Draining


async def test_everyone_who_waits_is_told() -> None:
    draining = Draining()
    waiting = [asyncio.create_task(draining.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not draining.is_set()
    draining.set()
    await asyncio.wait_for(asyncio.gather(*waiting), 1)
    assert draining.is_set()


async def test_waiting_after_the_fact_returns_at_once() -> None:
    draining = Draining()
    draining.set()
    await asyncio.wait_for(draining.wait(), 1)


async def test_it_may_be_set_from_another_thread_beside_somebody_who_gave_up() -> None:
    draining = Draining()
    gone = asyncio.create_task(draining.wait())
    stays = asyncio.create_task(draining.wait())
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.to_thread(draining.set)
    await asyncio.wait_for(stays, 1)
