"""How callers share a bounded number of sessions."""

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.integration.toolservers.conftest import Sink, alive, eventually, whoami
from toolservers.definition import ServerDefinition
from toolservers.errors import ToolServerBusy, ToolServerUnavailable
from toolservers.pool import SessionPool

Stdio = Callable[..., ServerDefinition]
MakePool = Callable[..., SessionPool]


async def test_calls_beyond_the_size_wait_and_are_served_in_order(
    make_pool: MakePool, stdio: Stdio, sink: Sink
) -> None:
    pool = make_pool(size=1)
    calls = [
        pool.call(stdio(), "append_line", {"text": str(n)}, timeout=10, repeatable=False)
        for n in range(20)
    ]
    await asyncio.gather(*calls)
    assert sink.lines == [str(n) for n in range(20)]
    assert pool.states()[0].sessions == 1


async def test_one_server_gets_several_processes_up_to_the_size(
    make_pool: MakePool, stdio: Stdio
) -> None:
    pool = make_pool(size=3)
    started = time.monotonic()
    calls = [
        pool.call(stdio(), "sleep", {"seconds": 1}, timeout=10, repeatable=False) for _ in range(6)
    ]
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max([most, *(state.sessions for state in pool.states())])
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*calls)
    watching.cancel()
    assert most == 3
    assert time.monotonic() - started < 5.5


async def test_the_least_recently_used_idle_session_gives_way(
    make_pool: MakePool, stdio: Stdio
) -> None:
    pool = make_pool(size=2)
    first, second, third = (stdio(environment_id=n) for n in (1, 2, 3))
    old = (await whoami(pool, first))["pid"]
    kept = (await whoami(pool, second))["pid"]
    await whoami(pool, third)
    assert not alive(old)
    assert (await whoami(pool, second))["pid"] == kept


async def test_an_idle_session_is_closed_after_a_while(make_pool: MakePool, stdio: Stdio) -> None:
    pool = make_pool(idle_seconds=0.2)
    pid = (await whoami(pool, stdio()))["pid"]
    await eventually(lambda: not alive(pid))
    assert (await whoami(pool, stdio()))["pid"] != pid


async def test_a_session_in_use_is_never_evicted_and_waiting_has_an_end(
    make_pool: MakePool, stdio: Stdio
) -> None:
    pool = make_pool(size=1)
    long_call = asyncio.create_task(
        pool.call(stdio(), "sleep", {"seconds": 6}, timeout=20, repeatable=False)
    )
    await eventually(lambda: bool(pool.states()) and pool.states()[0].sessions == 1)
    other = stdio(environment_id=2, request_timeout=0.5)
    with pytest.raises(ToolServerBusy) as caught:
        await pool.call(other, "whoami", {}, timeout=1, repeatable=False)
    assert not caught.value.outcome_unknown
    assert (await long_call).text == "slept 6 s"


async def test_a_cancelled_waiter_does_not_keep_its_place(
    make_pool: MakePool, stdio: Stdio
) -> None:
    pool = make_pool(size=1)
    running = asyncio.create_task(
        pool.call(stdio(), "sleep", {"seconds": 1}, timeout=10, repeatable=False)
    )
    waiting = asyncio.create_task(
        pool.call(stdio(), "sleep", {"seconds": 1}, timeout=10, repeatable=False)
    )
    await eventually(lambda: bool(pool.states()) and pool.states()[0].sessions == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await running
    assert (await whoami(pool, stdio()))["pid"]


async def test_cancelling_at_any_moment_loses_no_room(make_pool: MakePool, stdio: Stdio) -> None:
    pool = make_pool(size=2)
    for step in range(12):
        tasks = [
            asyncio.create_task(
                pool.call(stdio(), "sleep", {"seconds": 0.05}, timeout=10, repeatable=False)
            )
            for _ in range(5)
        ]
        await asyncio.sleep(step * 0.04)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    results = await asyncio.gather(*(whoami(pool, stdio()) for _ in range(5)))
    assert len(results) == 5


async def test_a_server_that_never_completes_the_handshake_does_not_hold_up_others(
    make_pool: MakePool, stdio: Stdio
) -> None:
    pool = make_pool(size=2, max_retries=5)
    bad = stdio("--hang-handshake", environment_id=2, name="bad", request_timeout=1.5)
    started = time.monotonic()
    hanging = asyncio.create_task(pool.list_tools(bad))
    await asyncio.sleep(0)
    assert (await whoami(pool, stdio()))["pid"]
    assert not hanging.done()
    with pytest.raises(ToolServerUnavailable, match="did not complete the handshake"):
        await hanging
    assert time.monotonic() - started < 5
    states = {state.name: state for state in pool.states()}
    assert states["hostile"].up
    assert not states["bad"].up
    assert "handshake" in states["bad"].last_error


async def test_a_receiver_of_standard_error_that_fails_harms_nobody(
    make_pool: MakePool, stdio: Stdio, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(definition: ServerDefinition, line: str) -> None:
        raise RuntimeError("disk full")

    pool = make_pool(on_stderr=failing)
    result = await pool.call(stdio(), "stderr_line", {"text": "hello"}, timeout=10, repeatable=True)
    assert result.text == "said"
    await pool.close()
    assert "disk full" in caplog.text


async def test_a_check_before_sending_comes_after_the_wait_and_can_end_the_call_unsent(
    make_pool: MakePool, stdio: Stdio, sink: Sink
) -> None:
    pool = make_pool(size=1)
    seen: list[int] = []

    def refuse() -> None:
        seen.append(pool.states()[0].sessions)
        raise LookupError

    with pytest.raises(LookupError):
        await pool.call(
            stdio(), "append_line", {"text": "x"}, timeout=10, repeatable=True, before_send=refuse
        )
    assert seen == [1]  # connected by then
    assert sink.lines == []
    await pool.call(stdio(), "append_line", {"text": "y"}, timeout=10, repeatable=False)
    assert sink.lines == ["y"]
