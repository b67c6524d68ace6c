"""Stdio servers as real processes: apart from each other, bounded, and surely dead at the end."""

import asyncio
import dataclasses
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.acceptance.runs import wrong_tools
from tests.integration.toolservers.conftest import (
    Sink,
    alive,
    eventually,
    process_group,
    whoami,
)
from toolservers.definition import ServerDefinition
from toolservers.errors import (
    StdioCommandNotAllowed,
    ToolCallLost,
    ToolCallTimeout,
    ToolRefused,
    ToolServerMisbehaved,
    ToolServerUnavailable,
)
from toolservers.hostile import digest
from toolservers.pool import SessionPool
from toolservers.redaction import MASK

Stdio = Callable[..., ServerDefinition]
MakePool = Callable[..., SessionPool]


async def test_two_environments_have_separate_processes_and_secrets(
    pool: SessionPool, stdio: Stdio
) -> None:
    one = stdio(environment_id=1, env={"SECRET": "first"})
    two = stdio(environment_id=2, env={"SECRET": "second"})
    told = [await whoami(pool, definition) for definition in (one, two, one, two)]
    assert [each["secret_sha256"] for each in told[:2]] == [digest("first"), digest("second")]
    assert told[0]["pid"] != told[1]["pid"]
    assert [each["pid"] for each in told[2:]] == [each["pid"] for each in told[:2]]


async def test_a_changed_secret_is_another_process(pool: SessionPool, stdio: Stdio) -> None:
    before = await whoami(pool, stdio(env={"SECRET": "old"}))
    after = await whoami(pool, stdio(env={"SECRET": "new"}))
    assert before["pid"] != after["pid"]
    assert after["secret_sha256"] == digest("new")


async def test_the_workers_environment_does_not_reach_the_server(
    make_pool: MakePool, stdio: Stdio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STN_ENCRYPTION_KEY", "x")
    monkeypatch.setenv("PASSED", "x")
    pool = make_pool(passed_environment=["PASSED"])
    result = await pool.call(stdio(env={"OWN": "1"}), "env", {}, timeout=10, repeatable=True)
    # LC_CTYPE is set by Python itself when it finds no locale.
    assert set(result.text.split(",")) - {"LC_CTYPE"} == {
        name for name in ("PATH", "HOME", "LANG") if name in os.environ
    } | {"PASSED", "OWN"}


async def test_a_command_that_is_not_allowed_starts_nothing(
    make_pool: MakePool, stdio: Stdio
) -> None:
    pool = make_pool(allowed_commands=["npx"])
    with pytest.raises(StdioCommandNotAllowed):
        await pool.list_tools(stdio())


async def test_the_tools_are_listed_with_schema_and_hints(pool: SessionPool, stdio: Stdio) -> None:
    tools = {tool.name: tool for tool in (await pool.list_tools(stdio())).tools}
    assert tools["append_line"].annotations["readOnlyHint"] is False
    assert tools["sleep"].annotations["readOnlyHint"] is True
    assert tools["append_line"].input_schema["required"] == ["text"]
    assert tools["append_line"].description.startswith("Append a line")


async def test_a_crashed_server_is_restarted_by_the_next_call(
    pool: SessionPool, stdio: Stdio
) -> None:
    before = await whoami(pool, stdio())
    with pytest.raises(ToolCallLost, match=r"exit status 3.*about to crash") as caught:
        await pool.call(stdio(), "crash", {}, timeout=10, repeatable=False)
    assert caught.value.outcome_unknown
    assert not caught.value.permanent
    assert (await whoami(pool, stdio()))["pid"] != before["pid"]


async def test_a_server_that_died_while_idle_is_replaced_without_an_error(
    pool: SessionPool, stdio: Stdio, sink: Sink
) -> None:
    before = await whoami(pool, stdio())
    os.kill(before["pid"], signal.SIGKILL)
    await eventually(lambda: pool.states()[0].sessions == 0)
    await pool.call(stdio(), "append_line", {"text": "x"}, timeout=10, repeatable=False)
    assert sink.lines == ["x"]


async def test_a_call_with_effects_is_never_sent_twice(
    pool: SessionPool, stdio: Stdio, sink: Sink
) -> None:
    call = {"text": "x", "then": "crash"}
    with pytest.raises(ToolCallLost):
        await pool.call(stdio(), "append_then", call, timeout=10, repeatable=False)
    assert sink.lines == ["x"]


async def test_a_repeatable_call_is_sent_again_until_it_is_answered(
    pool: SessionPool, stdio: Stdio, sink: Sink
) -> None:
    result = await pool.call(
        stdio(), "append_crash_once", {"text": "x"}, timeout=10, repeatable=True
    )
    assert result.text == "survived"
    assert sink.lines == ["x", "x"]


async def test_a_repeatable_call_is_sent_again_at_most_max_retries_times(
    make_pool: MakePool, stdio: Stdio, sink: Sink
) -> None:
    pool = make_pool(max_retries=2)
    call = {"text": "x", "then": "crash"}
    with pytest.raises(ToolCallLost):
        await pool.call(stdio(), "append_then", call, timeout=10, repeatable=True)
    assert sink.lines == ["x"] * 3


async def test_a_call_that_times_out_kills_a_server_that_ignores_sigterm(
    pool: SessionPool, stdio: Stdio, sink: Sink
) -> None:
    definition = stdio("--ignore-sigterm")
    started = time.monotonic()
    with pytest.raises(ToolCallTimeout) as caught:
        await pool.call(definition, "hang_ignoring_sigterm", {}, timeout=1, repeatable=True)
    assert time.monotonic() - started < 5
    assert caught.value.outcome_unknown
    pid = int(await sink.line("hanging "))
    await eventually(lambda: not alive(pid), within=4)
    assert (await whoami(pool, definition))["pid"] != pid


async def test_cancelling_a_call_kills_the_process_and_no_other(
    pool: SessionPool, stdio: Stdio, sink: Sink
) -> None:
    bystander = asyncio.create_task(
        pool.call(stdio(), "sleep", {"seconds": 2}, timeout=10, repeatable=True)
    )
    call = pool.call(stdio(), "fork_child", {"hang": True}, timeout=10, repeatable=True)
    task = asyncio.create_task(call)
    child = int(await sink.line("child "))
    group = os.getpgid(child)
    assert child in process_group(group)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: process_group(group) == [], within=4)
    assert (await bystander).text == "slept 2 s"


async def test_children_die_with_a_server_that_crashed(
    pool: SessionPool, stdio: Stdio, sink: Sink
) -> None:
    definition = stdio()
    await pool.call(definition, "fork_child", {}, timeout=10, repeatable=False)
    child = int(await sink.line("child "))
    with pytest.raises(ToolCallLost):
        await pool.call(definition, "crash", {}, timeout=10, repeatable=False)
    await eventually(lambda: not alive(child), within=4)


async def test_closing_the_pool_kills_every_group_within_seconds(
    make_pool: MakePool, stdio: Stdio, sink: Sink
) -> None:
    pool = make_pool()
    definition = stdio("--ignore-sigterm")
    await pool.call(definition, "fork_child", {}, timeout=10, repeatable=False)
    child = int(await sink.line("child "))
    hanging = asyncio.create_task(
        pool.call(definition, "hang_ignoring_sigterm", {}, timeout=60, repeatable=True)
    )
    server = int(await sink.line("hanging "))
    started = time.monotonic()
    await pool.close()
    assert time.monotonic() - started < 5
    assert not alive(child)
    assert not alive(server)
    with pytest.raises((ToolCallLost, ToolServerUnavailable)):
        await hanging
    with pytest.raises(ToolServerUnavailable, match="shutting down"):
        await pool.list_tools(definition)


WORKER = """
import asyncio, sys
from toolservers.definition import ServerDefinition
from toolservers.pool import SessionPool

async def main():
    pool = SessionPool(size=2, max_retries=0, output_limit=1000, allowed_commands=[sys.executable])
    definition = ServerDefinition(
        server_id=1, environment_id=1, name="h", transport="stdio", command=sys.executable,
        args=("-m", "toolservers.testing", "--sink", sys.argv[1], "--ignore-sigterm"),
    )
    await pool.call(definition, "fork_child", {}, timeout=10, repeatable=False)
    await pool.call(definition, "hang_ignoring_sigterm", {}, timeout=60, repeatable=False)

asyncio.run(main())
"""


async def test_a_killed_worker_leaves_neither_servers_nor_their_children(sink: Sink) -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(sink.path)])
    try:
        child = int(await sink.line("child "))
        server = int(await sink.line("hanging "))
        assert alive(child)
    finally:
        worker.kill()
        worker.wait()
    await eventually(lambda: not alive(server) and not alive(child), within=4)


async def test_an_endless_line_is_bounded_and_the_server_killed(
    pool: SessionPool, stdio: Stdio, sink: Sink
) -> None:
    server = (await whoami(pool, stdio()))["pid"]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ToolServerMisbehaved, match="larger than Station accepts") as caught:
        await pool.call(stdio(), "huge", {"mebibytes": 1024}, timeout=30, repeatable=True)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert caught.value.outcome_unknown
    assert grown < 150_000, f"{grown} KiB"
    await eventually(lambda: not alive(server), within=4)


async def test_a_server_that_never_stops_talking_is_killed(pool: SessionPool, stdio: Stdio) -> None:
    with pytest.raises(ToolServerMisbehaved, match="nobody asked for"):
        await pool.call(stdio(), "chatter", {}, timeout=30, repeatable=False)


async def test_a_long_text_is_cut_at_the_output_limit(make_pool: MakePool, stdio: Stdio) -> None:
    pool = make_pool(output_limit=1_000)
    result = await pool.call(stdio(), "big_text", {"size": 5_000_000}, timeout=10, repeatable=True)
    assert result.text == "y" * 1_000
    assert result.truncated


async def test_standard_error_is_handed_on_without_secrets(
    pool: SessionPool, stdio: Stdio, said: list[tuple[str, str]]
) -> None:
    definition = stdio(name="leaky", env={"SECRET": "hunter2"}, secrets=("hunter2",))
    await pool.call(definition, "stderr_secret", {}, timeout=10, repeatable=True)
    await eventually(lambda: bool(said))
    assert said == [("leaky", f"the secret is {MASK}!")]


async def test_a_flood_on_standard_error_is_bounded_and_hinders_nothing(
    pool: SessionPool, stdio: Stdio, said: list[tuple[str, str]]
) -> None:
    definition = stdio()
    flood = {"lines": 200_000}
    result = await pool.call(definition, "stderr_flood", flood, timeout=30, repeatable=True)
    assert result.text == "flooded"
    await pool.close()
    assert len(said) < 2_000
    assert any("lines dropped" in line for _, line in said)


async def test_prints_on_standard_output_go_to_the_log(
    pool: SessionPool, stdio: Stdio, said: list[tuple[str, str]]
) -> None:
    definition = dataclasses.replace(
        stdio(),
        args=(
            "-c",
            "print('starting up', flush=True); from toolservers.hostile import main; main()",
        ),
    )
    assert (await whoami(pool, definition))["pid"]
    assert ("hostile", "[stdout] starting up") in said


async def test_a_server_that_exits_at_once_is_retried_and_quoted(
    pool: SessionPool, stdio: Stdio, said: list[tuple[str, str]]
) -> None:
    with pytest.raises(ToolServerUnavailable, match=r"exit status 1.*no licence found") as caught:
        await pool.list_tools(stdio("--crash-handshake"))
    assert not caught.value.permanent
    assert [line for _, line in said] == ["no licence found"] * 3
    assert [(state.up, state.sessions) for state in pool.states()] == [(False, 0)]


async def test_half_a_character_spoils_no_answer(pool: SessionPool, stdio: Stdio) -> None:
    definition = dataclasses.replace(stdio(), args=(wrong_tools.__file__, "halves"))
    (tool,) = (await pool.list_tools(definition)).tools
    result = await pool.call(definition, "good", {}, timeout=5, repeatable=False)
    assert tool.description == result.text == "cut \N{REPLACEMENT CHARACTER}"


async def test_an_unknown_tool_is_refused_and_the_session_survives(
    pool: SessionPool, stdio: Stdio
) -> None:
    before = await whoami(pool, stdio())
    with pytest.raises(ToolRefused, match="unknown tool nonsense") as caught:
        await pool.call(stdio(), "nonsense", {}, timeout=10, repeatable=True)
    assert not caught.value.outcome_unknown
    assert await whoami(pool, stdio()) == before


def nested(depth: int) -> object:
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [float("nan"), 10**5000, {1}, *map(nested, (201, 300, 600, 5_000))],
    ids=["nan", "long number", "set", "201 deep", "300 deep", "600 deep", "5000 deep"],
)
async def test_arguments_that_are_not_json_are_refused_before_sending(
    pool: SessionPool, stdio: Stdio, sink: Sink, value: object
) -> None:
    with pytest.raises(ToolRefused, match="cannot be sent as JSON"):
        await pool.call(stdio(), "append_line", {"text": value}, timeout=10, repeatable=True)
    assert sink.lines == []
    await pool.call(stdio(), "append_line", {"text": nested(190)}, timeout=10, repeatable=True)
    assert len(sink.lines) == 1


async def test_a_probe_reports_and_leaves_nothing_behind(pool: SessionPool, stdio: Stdio) -> None:
    report = await pool.probe(stdio())
    assert (report.server_name, report.server_version) == ("station-hostile", "0")
    assert report.protocol_version
    assert report.connect_seconds > 0
    assert "append_line" in {tool.name for tool in report.listed.tools}
    await eventually(lambda: pool.states()[0].sessions == 0)
    assert pool.states()[0].up


async def test_the_demo_server_answers_over_stdio(
    pool: SessionPool, stdio: Stdio, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("root")
    (root / "log").write_text("one\ntwo\n")
    demo = stdio(name="demo", args=("-m", "toolservers.demo_server", "--root", str(root)))
    tail = await pool.call(demo, "tail_file", {"path": "log"}, timeout=20, repeatable=True)
    assert tail.structured is not None
    assert tail.structured["lines"] == ["one", "two"]
    wrong = await pool.call(demo, "tail_file", {"path": "/etc/passwd"}, timeout=9, repeatable=True)
    assert wrong.is_error
    assert "outside of what this server may read" in wrong.text
    bad = await pool.call(demo, "biggest_folders", {"limit": 0}, timeout=9, repeatable=True)
    assert bad.is_error
    load = await pool.call(demo, "machine_load", {}, timeout=9, repeatable=True)
    assert load.structured is not None
    assert load.structured["processors"] >= 1
