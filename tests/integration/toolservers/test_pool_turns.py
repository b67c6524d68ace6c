"""Servers take turns: who wants many sessions keeps nobody else from having one."""

import asyncio
import random
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.integration.toolservers.conftest import Sink, eventually, whoami
from toolservers.definition import ServerDefinition
from toolservers.errors import ToolServerUnavailable
from toolservers.pool import SessionPool

Stdio = Callable[..., ServerDefinition]
MakePool = Callable[..., SessionPool]


def sleeps(
    pool: SessionPool, definition: ServerDefinition, times: int, seconds: float
) -> list[asyncio.Task[object]]:
    call = {"seconds": seconds}
    return [
        asyncio.create_task(pool.call(definition, "sleep", call, timeout=60, repeatable=False))
        for _ in range(times)
    ]


async def given_up(tasks: list[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_another_environment_waits_for_one_session_only(
    make_pool: MakePool, stdio: Stdio
) -> None:
    pool = make_pool(size=2)
    many = sleeps(pool, stdio(request_timeout=60), 64, 1)
    await eventually(lambda: bool(pool.states()) and pool.states()[0].sessions == 2)
    for _ in range(2):
        started = time.monotonic()
        assert (await whoami(pool, stdio(environment_id=2)))["pid"]
        assert time.monotonic() - started < 4
    assert sum(task.done() for task in many) < 10
    await given_up(many)


async def test_servers_take_turns_at_a_single_session(
    make_pool: MakePool, stdio: Stdio, sink: Sink
) -> None:
    pool = make_pool(size=1)
    calls = [
        pool.call(
            stdio(environment_id=number, request_timeout=60),
            "append_line",
            {"text": str(number)},
            timeout=60,
            repeatable=False,
        )
        for number in (1, 2, 3)
        for _ in range(4)
    ]
    await asyncio.gather(*calls)
    assert sorted(sink.lines) == sorted("123" * 4)
    assert all(before != after for before, after in pairwise(sink.lines))


async def test_who_comes_and_goes_does_not_come_first_each_time(
    make_pool: MakePool, stdio: Stdio, sink: Sink
) -> None:
    pool = make_pool(size=1)

    async def note(number: int) -> None:
        definition = stdio(environment_id=number, request_timeout=60)
        call = {"text": str(number)}
        await pool.call(definition, "append_line", call, timeout=60, repeatable=False)

    async def one_after_the_other() -> None:
        for _ in range(4):
            await note(2)

    await asyncio.gather(*(note(1) for _ in range(4)), one_after_the_other())
    assert "222" not in "".join(sink.lines)


async def test_a_server_that_does_not_greet_leaves_room_for_another(
    make_pool: MakePool, stdio: Stdio
) -> None:
    pool = make_pool(size=2, max_retries=0)
    silent = stdio("--hang-handshake", name="silent", request_timeout=6)
    many = sleeps(pool, silent, 8, 1)
    await asyncio.sleep(0.1)
    started = time.monotonic()
    assert (await whoami(pool, stdio(environment_id=2)))["pid"]
    assert time.monotonic() - started < 4
    with pytest.raises(ToolServerUnavailable, match="did not complete the handshake"):
        await many[0]
    await given_up(many)


async def test_a_waiter_of_another_server_that_gives_up_loses_no_room(
    make_pool: MakePool, stdio: Stdio
) -> None:
    pool = make_pool(size=2)
    busy = sleeps(pool, stdio(request_timeout=60), 6, 0.5)
    for _ in range(6):
        other = asyncio.create_task(whoami(pool, stdio(environment_id=2, request_timeout=60)))
        await asyncio.sleep(random.uniform(0, 0.4))  # noqa: S311
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
    await asyncio.gather(*busy)
    both = [whoami(pool, stdio(environment_id=number)) for number in (1, 2)]
    assert len({told["pid"] for told in await asyncio.gather(*both)}) == 2


async def test_servers_that_fail_hang_and_work_share_the_room(
    make_pool: MakePool, stdio: Stdio
) -> None:
    """Some are given up as well; in the end, all room is there."""
    pool = make_pool(size=3, max_retries=0)
    kinds = [
        stdio(environment_id=1, request_timeout=30),
        stdio(environment_id=2, request_timeout=30),
        stdio("--crash-handshake", environment_id=3, request_timeout=30),
        stdio("--hang-handshake", environment_id=4, request_timeout=1),
    ]
    chance = random.Random(7)  # noqa: S311
    tasks = [task for _ in range(8) for kind in kinds for task in sleeps(pool, kind, 2, 0.05)]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0.1)
        chance.choice(tasks).cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    bad = [one for one in results if isinstance(one, BaseException)]
    allowed = ToolServerUnavailable | asyncio.CancelledError
    assert all(isinstance(error, allowed) for error in bad), bad
    fine = await asyncio.gather(*(whoami(pool, stdio(environment_id=n)) for n in (1, 2, 5)))
    assert len({told["pid"] for told in fine}) == 3
