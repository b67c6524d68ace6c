"""The tools, called with the SDK's own client over streamable HTTP."""

import asyncio
import time
from collections.abc import Callable
from functools import partial

import pytest
from mcp.shared.exceptions import MCPError

from agents import changes
from runs.entries import Entry, Kind
from runs.models import Run
from runs.states import Status
from station.core.principal import Role
from tests import factories
from tests.factories import OPERATOR
from tests.integration.mcpgw.client import (
    claim,
    connected,
    finish,
    in_database,
    step,
    text,
    until,
)
from tests.integration.mcpgw.conftest import Running, Tenant

FIXED = {"list_agents", "run_agent", "get_run", "list_runs", "retry_run", "cancel_run"}


def tool_of(tenant: Tenant) -> str:
    return f"agent_{tenant.environment.name}_{tenant.agent.name}"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_each_principal_sees_its_own_agents_as_tools(
    gateway: Running, alice: Tenant, bob: Tenant, mode: str
) -> None:
    for tenant in (alice, bob):
        async with connected(gateway.url, tenant.key, mode=mode) as client:
            listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(listed) == FIXED | {tool_of(tenant)}
        for name in ("list_agents", "get_run"):
            annotations = listed[name].annotations
            assert annotations is not None
            assert annotations.read_only_hint


async def test_disabled_agents_and_a_viewers_agents_are_not_tools(
    gateway: Running, alice: Tenant, tenant: Callable[..., Tenant]
) -> None:
    vera = await in_database(lambda: tenant("vera", Role.VIEWER))
    await in_database(lambda: changes.update(OPERATOR, alice.agent, enabled=False))
    for one in (vera, alice):
        async with connected(gateway.url, one.key) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == FIXED
            listed = (await client.call_tool("list_agents")).structured_content["agents"]
        assert [(agent["name"], agent["may_run"]) for agent in listed] == [(one.agent.name, False)]


async def test_a_run_is_queued_carried_and_told(gateway: Running, alice: Tenant) -> None:
    steps: list[str | None] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append(message)

    async with connected(gateway.url, alice.key) as client:
        call = asyncio.create_task(
            client.call_tool(
                "run_agent",
                {"agent": "alice-agent", "task": "Count.", "data": {"to": 3}},
                progress_callback=on_progress,
            )
        )
        owned = await until(claim, "the run in the queue")
        called = Entry(kind=Kind.TOOL_CALLED, payload={"tool": "count", "arguments": {"to": 3}})
        await until(lambda: _told(owned, called, steps), "the progress")
        await in_database(partial(finish, owned, "1 2 3"))
        began = time.monotonic()
        result = await call
    assert time.monotonic() - began < 2
    assert not result.is_error
    assert text(result) == "1 2 3"
    body = result.structured_content
    assert (body["run_id"], body["status"], body["output"]) == (owned.run_id, "succeeded", "1 2 3")
    assert body["usage"].keys() == {"steps", "input_tokens", "output_tokens", "cost_usd"}
    run = await in_database(lambda: Run.objects.get(pk=owned.run_id))
    assert (run.input, run.data, run.submitter_kind) == ("Count.", {"to": 3}, "api_key")
    assert run.submitted_by == "alice/test"


def _told(owned: object, entry: Entry, steps: list[str | None]) -> bool:
    """Journal further steps until one is heard of: the first may come before the subscription."""
    step(owned, Entry(kind=entry.kind, payload=entry.payload))  # type: ignore[arg-type]
    return any(line and line.startswith("Calls: count") for line in steps)


async def test_the_agents_own_tool_runs_it(gateway: Running, alice: Tenant) -> None:
    async with connected(gateway.url, alice.key) as client:
        call = asyncio.create_task(client.call_tool(tool_of(alice), {"task": "Hello."}))
        owned = await until(claim, "the run in the queue")
        await in_database(partial(finish, owned, "Hello back."))
        assert text(await call) == "Hello back."


async def test_a_run_that_takes_longer_is_fetched_with_get_run(
    gateway: Running, alice: Tenant
) -> None:
    async with connected(gateway.url, alice.key) as client:
        first = await client.call_tool(
            "run_agent", {"agent": "alice-agent", "task": "Think.", "wait_seconds": 0}
        )
        assert not first.is_error
        assert first.structured_content["status"] == "queued"
        run_id = first.structured_content["run_id"]
        assert f"Call get_run with run_id {run_id}" in text(first)
        owned = await in_database(claim)
        look = await client.call_tool("get_run", {"run_id": run_id})
        assert look.structured_content["status"] == "running"
        wait = asyncio.create_task(
            client.call_tool("get_run", {"run_id": run_id, "wait_seconds": 30})
        )
        await in_database(partial(finish, owned, "Thought."))
        assert text(await wait) == "Thought."


async def test_an_end_that_nobody_announced_is_found_all_the_same(
    gateway: Running, alice: Tenant
) -> None:
    async with connected(gateway.url, alice.key) as client:
        call = asyncio.create_task(client.call_tool(tool_of(alice), {"task": "Hush."}))
        owned = await until(claim, "the run in the queue")
        await in_database(partial(finish, owned, "Quiet.", silently=True))
        assert text(await call) == "Quiet."


async def test_a_failed_run_is_a_tool_error_that_says_why(gateway: Running, alice: Tenant) -> None:
    async with connected(gateway.url, alice.key) as client:
        call = asyncio.create_task(client.call_tool(tool_of(alice), {"task": "Fail."}))
        owned = await until(claim, "the run in the queue")
        error = ("max_steps_reached", "It used all its steps.", "")
        await in_database(partial(finish, owned, status=Status.FAILED, error=error))
        result = await call
    assert result.is_error
    expected = f"Run {owned.run_id} failed: It used all its steps. (max_steps_reached)"
    assert text(result) == expected


async def test_a_client_that_leaves_does_not_end_its_run(gateway: Running, alice: Tenant) -> None:
    async with connected(gateway.url, alice.key) as client:
        call = asyncio.create_task(client.call_tool(tool_of(alice), {"task": "Go on."}))
        owned = await until(claim, "the run in the queue")
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    async with connected(gateway.url, alice.key) as client:
        look = await client.call_tool("get_run", {"run_id": owned.run_id})
    assert look.structured_content["status"] == "running"
    run = await in_database(lambda: Run.objects.get(pk=owned.run_id))
    assert run.cancel_requested_at is None


async def test_cancel_ends_a_queued_run_and_says_so_of_an_ended_one(
    gateway: Running, alice: Tenant
) -> None:
    run = await in_database(lambda: factories.run(alice.agent))
    async with connected(gateway.url, alice.key) as client:
        result = await client.call_tool("cancel_run", {"run_id": run.pk})
        assert result.structured_content["status"] == "cancelled"
        again = await client.call_tool("cancel_run", {"run_id": run.pk})
    assert again.is_error
    assert again.structured_content["error"]["code"] == "run_finished"


async def test_the_same_idempotency_key_starts_one_run(gateway: Running, alice: Tenant) -> None:
    arguments = {"agent": "alice-agent", "task": "Once.", "wait_seconds": 0, "idempotency_key": "k"}
    async with connected(gateway.url, alice.key) as client:
        first = await client.call_tool("run_agent", arguments)
        second = await client.call_tool("run_agent", arguments)
        other = await client.call_tool("run_agent", arguments | {"task": "Twice."})
    assert first.structured_content["run_id"] == second.structured_content["run_id"]
    assert other.structured_content["error"]["code"] == "idempotency_key_reused"
    assert await in_database(Run.objects.count) == 1


async def test_nothing_of_another_environment_is_reachable(
    gateway: Running, alice: Tenant, bob: Tenant
) -> None:
    theirs = await in_database(lambda: factories.run(bob.agent))
    async with connected(gateway.url, alice.key) as client:
        listed = await client.call_tool("list_agents")
        assert "bob" not in text(listed)
        for tool, arguments, code in (
            ("run_agent", {"agent": "bob-agent", "task": "Hi."}, "agent_not_found"),
            ("run_agent", {"agent": bob.agent.pk, "task": "Hi."}, "agent_not_found"),
            (
                "run_agent",
                {"agent": "bob-agent", "environment": "bob-env", "task": "Hi."},
                "environment_not_found",
            ),
            ("list_agents", {"environment": "bob-env"}, "environment_not_found"),
            ("get_run", {"run_id": theirs.pk}, "run_not_found"),
            ("cancel_run", {"run_id": theirs.pk}, "run_not_found"),
        ):
            result = await client.call_tool(tool, arguments)
            assert result.is_error, tool
            assert result.structured_content["error"]["code"] == code
        with pytest.raises(MCPError, match="Unknown tool"):
            await client.call_tool(tool_of(bob), {"task": "Hi."})
    assert await in_database(Run.objects.count) == 1


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("run_agent", {"agent": "alice-agent"}, '"task" is a required property'),
        ("run_agent", {"agent": "alice-agent", "task": 5}, 'task: 5 is not of type "string"'),
        ("run_agent", {"agent": "alice-agent", "task": "  "}, "task: is empty"),
        ("run_agent", {"agent": "alice-agent", "task": "x", "data": []}, "data: [] is not of type"),
        ("run_agent", {"agent": "alice-agent", "task": "x", "prompt": "y"}, "'prompt' was unexp"),
        ("run_agent", {"agent": "alice-agent", "task": "x", "wait_seconds": -1}, "wait_seconds:"),
        ("run_agent", {"agent": "nobody", "task": "x"}, "no agent 'nobody'"),
        ("run_agent", {"agent": "alice-agent", "task": "x", "timeout": "soon"}, "timeout: 'soon'"),
        ("run_agent", {"agent": "alice-agent", "task": "x", "timeout": 0}, "timeout: must be"),
        ("run_agent", {"agent": "alice-agent", "task": "x", "priority": 101}, "priority:"),
        ("run_agent", {"agent": "a\0", "task": "x"}, "agent: holds"),
        (
            "run_agent",
            {"agent": "alice-agent", "task": "x", "idempotency_key": ""},
            "idempotency_k",
        ),
        (
            "run_agent",
            {"agent": "alice-agent", "task": "x", "idempotency_key": "\0"},
            "idempotency_key: holds",
        ),
        ("list_agents", {"environment": "\0"}, "environment: holds"),
        ("list_runs", {"status": ["lost"]}, "status.0:"),
        ("list_runs", {"limit": 201}, "limit:"),
        ("list_runs", {"created_after": "soon"}, "created_after: 'soon' is no point in time"),
        ("list_runs", {"agent": "nobody"}, "no agent 'nobody'"),
        ("retry_run", {"run_id": 0}, "no run '0'"),
        ("get_run", {}, '"run_id" is a required property'),
        ("get_run", {"run_id": "../1"}, "no run '../1'"),
        ("get_run", {"run_id": 10**30}, "no run"),
        ("agent_alice-env_alice-agent", {}, '"task" is a required property'),
    ],
)
async def test_bad_arguments_are_tool_errors_and_store_nothing(
    gateway: Running, alice: Tenant, tool: str, arguments: dict[str, object], message: str
) -> None:
    async with connected(gateway.url, alice.key) as client:
        result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert message in text(result)
    assert not await in_database(Run.objects.exists)


async def test_an_ambiguous_name_asks_for_the_environment(gateway: Running, alice: Tenant) -> None:
    def twin() -> None:
        where = factories.environment("second-env")
        factories.agent(where, "alice-agent")
        from station.accounts import services

        services.set_role(OPERATOR, username="alice", environment_id=where.pk, role=Role.OPERATOR)

    await in_database(twin)
    arguments = {"agent": "alice-agent", "task": "x", "wait_seconds": 0}
    async with connected(gateway.url, alice.key) as client:
        result = await client.call_tool("run_agent", arguments)
        assert "Name the environment too" in text(result)
        result = await client.call_tool("run_agent", arguments | {"environment": "second-env"})
        assert result.structured_content["environment"] == "second-env"


async def test_many_agents_come_in_pages(gateway: Running, alice: Tenant) -> None:
    def more() -> None:
        for number in range(205):
            factories.agent(alice.environment, f"more-{number}")

    await in_database(more)
    names: list[str] = []
    async with connected(gateway.url, alice.key) as client:
        page = await client.list_tools()
        names += [tool.name for tool in page.tools]
        assert page.next_cursor is not None
        page = await client.list_tools(cursor=page.next_cursor)
        names += [tool.name for tool in page.tools]
        assert page.next_cursor is None
        with pytest.raises(MCPError, match="cursor"):
            await client.list_tools(cursor="junk")
    assert len(names) == len(set(names)) == len(FIXED) + 206


async def test_an_agent_with_a_long_name_is_callable(gateway: Running, alice: Tenant) -> None:
    long = await in_database(lambda: factories.agent(alice.environment, "a" * 63))
    await in_database(lambda: factories.agent(alice.environment, "a" * 62 + "b"))
    async with connected(gateway.url, alice.key) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert len(set(names)) == len(names)
        assert max(len(name) for name in names) == 64
        for name in names:
            if name.startswith("agent_alice-env_aaa"):
                call = asyncio.create_task(client.call_tool(name, {"task": "x"}))
                owned = await until(claim, "the run in the queue")
                await in_database(partial(finish, owned, "Done."))
                await call
    assert await in_database(lambda: Run.objects.filter(agent=long).count()) == 1


async def test_a_stop_answers_the_waiting_with_the_run_as_it_stands(
    gateway: Running, alice: Tenant
) -> None:
    async with connected(gateway.url, alice.key) as client:
        await client.list_tools()  # else the client asks for the result's schema after the stop
        call = asyncio.create_task(client.call_tool(tool_of(alice), {"task": "Cut short."}))

        def claim_it() -> bool:  # other tests may have left runs in the queue
            moved = claim()
            return moved is not None and Run.objects.get(pk=moved.run_id).input == "Cut short."

        await until(claim_it, "the run in the queue")
        gateway.stop.set()
        result = await call
    assert result.structured_content["status"] == "running"
