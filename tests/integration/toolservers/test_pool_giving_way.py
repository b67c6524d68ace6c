"""A session that many callers share, without a pause, does not keep other servers out."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from tests.integration.toolservers.raw_http import Answer, OldServer, answer, raw_http
from toolservers.definition import ServerDefinition, ToolResult
from toolservers.pool import SessionPool

MakePool = Callable[..., SessionPool]
LONGEST_CALL = 0.3
BOUND = 5.0
"""Less than what a caller waits for a session (request_timeout and 3 s)."""


class SlowServer:
    """Answers a call when it is let, if it ``waits``; else when the next comes, or soon."""

    def __init__(self, *, waits: bool = False) -> None:
        self.definition: ServerDefinition
        self.calls = 0
        self.sessions = (old := OldServer()).sessions
        self._old = old
        self._waits = waits
        self._changed = asyncio.Condition()
        self._let = 0

    async def __call__(self, method: str, headers: dict[str, str], body: bytes) -> Answer:
        if b'"tools/call"' not in body:
            return await self._old(method, headers, body)
        async with self._changed:
            self.calls += 1
            mine = self.calls
            self._changed.notify_all()
            if self._waits:
                await self._changed.wait_for(lambda: self._let >= mine)
            else:
                try:
                    async with asyncio.timeout(LONGEST_CALL):
                        await self._changed.wait_for(lambda: self.calls > mine)
                except TimeoutError:
                    pass
        return answer(body, result={"content": [{"type": "text", "text": "done"}]})

    async def called(self, times: int) -> None:
        """Return when so many calls have come, in all."""
        async with asyncio.timeout(BOUND), self._changed:
            await self._changed.wait_for(lambda: self.calls >= times)

    async def let(self) -> None:
        """Have the calls answered that have come."""
        async with self._changed:
            self._let = self.calls
            self._changed.notify_all()


MakeServer = Callable[..., Awaitable[SlowServer]]


@pytest.fixture
async def make_server() -> AsyncIterator[MakeServer]:
    async with AsyncExitStack() as stack:

        async def make(*, waits: bool = False) -> SlowServer:
            server = SlowServer(waits=waits)
            server.definition = await stack.enter_async_context(raw_http(server))
            return server

        yield make


async def started(pool: SessionPool, server: SlowServer) -> asyncio.Task[ToolResult]:
    """A call that was begun: it is sent, or waits for a session."""
    call = pool.call(server.definition, "any", {}, timeout=BOUND, repeatable=False)
    task = asyncio.create_task(call)
    await asyncio.sleep(0)
    return task


async def ended(*tasks: asyncio.Task[ToolResult]) -> None:
    async with asyncio.timeout(BOUND):
        assert {result.text for result in await asyncio.gather(*tasks)} == {"done"}


async def overlapping(pool: SessionPool, server: SlowServer) -> None:
    """Call for ever, so that a call begins before the one before it has ended."""

    async def one_after_the_other() -> None:
        while True:
            await pool.call(server.definition, "any", {}, timeout=60, repeatable=False)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(one_after_the_other())


async def stopped(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_server_is_served_beside_one_whose_calls_always_overlap(
    make_pool: MakePool, make_server: MakeServer
) -> None:
    pool = make_pool(size=1)
    busy, other = await make_server(), await make_server()
    calling = asyncio.create_task(overlapping(pool, busy))
    await busy.called(20)
    for _ in range(2):
        await ended(await started(pool, other))
        await busy.called(busy.calls + 20)
    await stopped(calling)


@pytest.mark.parametrize("size", [1, 2])
async def test_servers_whose_calls_always_overlap_take_turns(
    make_pool: MakePool, make_server: MakeServer, size: int
) -> None:
    pool = make_pool(size=size)
    servers = [await make_server() for _ in range(4)]
    calling = [asyncio.create_task(overlapping(pool, server)) for server in servers]
    for times in (1, 5, 9):
        await asyncio.gather(*(server.called(times) for server in servers))
    await stopped(*calling)


async def test_callers_that_wait_together_share_the_session_that_another_gave_up(
    make_pool: MakePool, make_server: MakeServer
) -> None:
    pool = make_pool(size=1)
    busy, other = await make_server(waits=True), await make_server(waits=True)
    first = await started(pool, busy)
    await busy.called(1)
    several = [await started(pool, other) for _ in range(5)]
    later = await started(pool, busy)
    await busy.let()
    await ended(first)
    await other.called(5)
    assert busy.calls == 1
    await other.let()
    await ended(*several)
    await busy.called(2)
    await busy.let()
    await ended(later)
    assert (len(busy.sessions), len(other.sessions)) == (2, 1)


async def test_one_waiting_server_makes_one_session_give_way(
    make_pool: MakePool, make_server: MakeServer
) -> None:
    pool = make_pool(size=2)
    older, newer, other = [await make_server(waits=True) for _ in range(3)]
    calls = []
    for server in (older, newer):
        calls.append(await started(pool, server))
        await server.called(1)
    waiting = [await started(pool, other) for _ in range(2)]
    calls += [await started(pool, newer), await started(pool, older)]
    await newer.called(2)
    await older.let()
    await other.called(2)
    assert older.calls == 1
    await other.let()
    await ended(*waiting)
    await older.called(2)
    await newer.let()
    await older.let()
    await ended(*calls)
    assert (len(older.sessions), len(newer.sessions)) == (2, 1)


async def test_a_session_stays_if_nobody_wants_its_room_any_more(
    make_pool: MakePool, make_server: MakeServer
) -> None:
    pool = make_pool(size=1)
    busy, other = await make_server(waits=True), await make_server(waits=True)
    first = await started(pool, busy)
    await busy.called(1)
    waiting = await started(pool, other)
    later = await started(pool, busy)
    waiting.cancel()
    await busy.called(2)
    await busy.let()
    await ended(first, later)
    assert len(busy.sessions) == 1


async def test_callers_that_come_and_go_lose_no_room_and_no_caller(
    make_pool: MakePool, make_server: MakeServer
) -> None:
    pool = make_pool(size=2)
    servers = [await make_server() for _ in range(5)]
    chance = random.Random(3)  # noqa: S311
    tasks = []
    for _ in range(150):
        tasks.append(await started(pool, chance.choice(servers)))
        if chance.random() < 0.4:
            chance.choice(tasks).cancel()
    async with asyncio.timeout(4 * BOUND):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, ToolResult | asyncio.CancelledError) for one in results), results
    await ended(*[await started(pool, server) for server in servers])
