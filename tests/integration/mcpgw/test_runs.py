"""Runs over MCP: found, done again, in doubt."""

from functools import partial

from runs import services
from runs.models import Run
from runs.states import Status
from station.core.principal import Role
from tests import factories
from tests.factories import OPERATOR
from tests.integration.mcpgw.client import claim, connected, finish, in_database, text
from tests.integration.mcpgw.conftest import Running, Tenant
from tests.integration.runs.doubting import CALLS, doubt


async def test_a_run_is_given_its_place_and_its_limits(gateway: Running, alice: Tenant) -> None:
    arguments = {"agent": alice.agent.pk, "task": "Go.", "wait_seconds": 0, "priority": 7,
                 "timeout": "5m", "queue_timeout": 60}  # fmt: skip
    async with connected(gateway.url, alice.key) as client:
        result = await client.call_tool("run_agent", arguments)
    run = await in_database(lambda: Run.objects.get(pk=result.structured_content["run_id"]))
    assert (run.priority, run.timeout, run.queue_deadline is not None) == (7, 300, True)


async def test_an_agents_own_tool_takes_an_idempotency_key(gateway: Running, alice: Tenant) -> None:
    tool = f"agent_{alice.environment.name}_{alice.agent.name}"
    run = await in_database(
        lambda: services.cancel(
            OPERATOR,
            services.submit(
                _principal(alice),
                alice.agent,
                services.Request(input="Once.", data={}),
                idempotency_key="k",
            ),
        )
    )
    async with connected(gateway.url, alice.key) as client:
        result = await client.call_tool(tool, {"task": "Once.", "idempotency_key": "k"})
    assert result.structured_content["run_id"] == run.pk


def _principal(tenant: Tenant):  # type: ignore[no-untyped-def]
    from station.accounts import principals

    return principals.for_api_key(tenant.key)


async def test_a_run_that_has_ended_is_done_again(gateway: Running, alice: Tenant) -> None:
    run = await in_database(lambda: factories.run(alice.agent, "Look."))
    arguments = {"run_id": run.pk, "wait_seconds": 0, "idempotency_key": "k"}
    async with connected(gateway.url, alice.key) as client:
        early = await client.call_tool("retry_run", arguments)
        assert early.structured_content["error"]["code"] == "run_not_finished"
        await client.call_tool("cancel_run", {"run_id": run.pk})
        first = await client.call_tool("retry_run", arguments)
        again = await client.call_tool("retry_run", arguments)
    body = first.structured_content
    assert (body["retry_of"], body["status"], body["retries"]) == (run.pk, "queued", 0)
    assert again.structured_content["run_id"] == body["run_id"]
    assert await in_database(Run.objects.count) == 2


async def test_a_run_in_doubt_says_which_calls_and_who_decides(
    gateway: Running, alice: Tenant
) -> None:
    await in_database(lambda: factories.run(alice.agent))
    run = await in_database(doubt)
    async with connected(gateway.url, alice.key) as client:
        result = await client.call_tool("get_run", {"run_id": run.pk})
        [listed] = (await client.call_tool("list_runs")).structured_content["runs"]
    body = result.structured_content
    assert (body["status"], body["wait_reason"], body["open_calls"]) == ("waiting", "doubt", CALLS)
    told = text(result)
    assert '  c1: s__write {"n": 0}\n  c2: s__write {"n": 1}\n' in told
    assert f"`station run decide {run.pk}`" in told
    assert "Call get_run" not in told
    assert listed["wait_reason"] == "doubt"


async def test_runs_are_found_by_filters_and_in_pages(
    gateway: Running, alice: Tenant, bob: Tenant
) -> None:
    def stored() -> list[Run]:
        theirs = factories.run(bob.agent)
        other = factories.run(factories.agent(alice.environment, "other"))
        return [theirs, other, *(factories.run(alice.agent, f"Task {n}.") for n in range(3))]

    _, other, *own = await in_database(stored)
    owned = await in_database(claim)
    while owned is not None and owned.run_id != own[0].pk:
        owned = await in_database(claim)
    await in_database(partial(finish, owned, status=Status.SUCCEEDED))
    async with connected(gateway.url, alice.key) as client:

        async def found(**arguments: object) -> tuple[list[int], int | None]:
            body = (await client.call_tool("list_runs", arguments)).structured_content
            return [run["run_id"] for run in body["runs"]], body["next_before_id"]

        everything = [own[2].pk, own[1].pk, own[0].pk, other.pk]
        assert await found() == (everything, None)
        assert await found(limit=3) == (everything[:3], own[0].pk)
        assert await found(limit=3, before_id=own[0].pk) == (everything[3:], None)
        assert await found(agent="alice-agent", status=["queued"]) == (everything[:2], None)
        assert await found(agent=alice.agent.pk, environment="alice-env") == (everything[:3], None)
        assert await found(status=["succeeded"]) == ([own[0].pk], None)
        assert await found(submitted_by="nobody") == ([], None)
        assert await found(created_after="2001-01-01T00:00:00Z") == (everything, None)
        assert await found(created_before="2001-01-01") == ([], None)
        page = text(await client.call_tool("list_runs", {"limit": 1}))
        assert page.startswith(f"{own[2].pk} queued alice-env/alice-agent: Task 2.\n")
        assert f"before_id {own[2].pk}" in page
        assert text(await client.call_tool("list_runs", {"status": ["failed"]})).startswith("There")


async def test_a_viewer_finds_runs_and_does_none_again(gateway: Running, tenant) -> None:  # type: ignore[no-untyped-def]
    vera = await in_database(lambda: tenant("vera", Role.VIEWER))
    run = await in_database(lambda: services.cancel(OPERATOR, factories.run(vera.agent)))
    async with connected(gateway.url, vera.key) as client:
        assert (await client.call_tool("list_runs")).structured_content["runs"]
        result = await client.call_tool("retry_run", {"run_id": run.pk})
    assert result.structured_content["error"]["code"] == "forbidden"
