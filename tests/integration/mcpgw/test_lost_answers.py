"""The database does what it is asked and its answer is lost: the gateway asks again."""

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from django.db import OperationalError
from mcp_types import CallToolRequestParams

from mcpgw.gateway import Gateway
from mcpgw.waiting import Waiting
from runs import services
from runs.database import Units
from runs.hub import Hub
from runs.models import Run
from station.config import current
from tests import factories
from tests.factories import OPERATOR
from tests.integration.mcpgw.client import claim, in_database
from tests.integration.mcpgw.conftest import Tenant

T = TypeVar("T")


class Forgetful(Units):
    """Every unit is carried out, and its first answer is lost."""

    async def run(self, work: Callable[[], T], *, patience: float = 10.0) -> T:
        lost = False

        def once_for_nothing() -> T:
            nonlocal lost
            result = work()
            if not lost:
                lost = True
                raise OperationalError("the connection is lost")
            return result

        return await super().run(once_for_nothing, patience=patience)


@pytest.fixture
async def gateway(transactional_db: None) -> AsyncIterator[Gateway]:
    units, hub = Forgetful(threads=2), Hub(current().redis.url.get_secret_value())
    yield Gateway(lambda _: OPERATOR, units, Waiting(units, hub))
    await hub.close()
    units.close()


async def call(gateway: Gateway, tool: str, **arguments: Any) -> dict[str, Any]:
    params = CallToolRequestParams(name=tool, arguments=arguments)
    context: Any = SimpleNamespace(request=None)
    result = await gateway.call_tool(context, params)
    assert result.structured_content is not None
    return dict(result.structured_content)


async def test_one_call_stores_one_run(gateway: Gateway, alice: Tenant) -> None:
    body = await call(gateway, "run_agent", agent="alice-agent", task="Go.", wait_seconds=0)
    assert body["status"] == "queued"
    assert await in_database(Run.objects.count) == 1
    second = await call(gateway, "run_agent", agent="alice-agent", task="Go.", wait_seconds=0)
    assert second["run_id"] != body["run_id"]


async def test_one_call_of_an_agents_tool_stores_one_run(gateway: Gateway, alice: Tenant) -> None:
    tool = f"agent_{alice.environment.name}_{alice.agent.name}"
    gateway._waiting.stop()
    await call(gateway, tool, task="Go.")
    assert await in_database(Run.objects.count) == 1


class Dying(Units):
    """A database that goes away right after it has stored something."""

    async def run(self, work: Callable[[], T], *, patience: float = 10.0) -> T:
        before = await super().run(Run.objects.count)
        if before:
            raise OperationalError("nobody listens")
        return await super().run(work, patience=patience)


async def test_a_run_that_is_stored_is_named_though_its_state_cannot_be_read(
    transactional_db: None, alice: Tenant
) -> None:
    units, hub = Dying(threads=2), Hub(current().redis.url.get_secret_value())
    gateway = Gateway(lambda _: OPERATOR, units, Waiting(units, hub))
    body = await call(gateway, "run_agent", agent="alice-agent", task="Go.")
    run = await in_database(Run.objects.get)
    assert body == {"run_id": run.pk, "status": None}
    await hub.close()
    units.close()


async def test_one_call_makes_one_retry(gateway: Gateway, alice: Tenant) -> None:
    run = await in_database(lambda: services.cancel(OPERATOR, factories.run(alice.agent)))
    body = await call(gateway, "retry_run", run_id=run.pk, wait_seconds=0)
    assert body["retry_of"] == run.pk
    assert await in_database(Run.objects.count) == 2


async def test_a_cancellation_that_happened_is_told_as_one(gateway: Gateway, alice: Tenant) -> None:
    queued, running = await in_database(lambda: [factories.run(alice.agent) for _ in range(2)])
    while (owned := await in_database(claim)).run_id != queued.pk:
        pass
    queued, running = running, queued
    assert (await call(gateway, "cancel_run", run_id=queued.pk))["status"] == "cancelled"
    assert (await call(gateway, "cancel_run", run_id=running.pk))["status"] == "running"
    assert owned.run_id == running.pk
    again = await call(gateway, "cancel_run", run_id=queued.pk)
    assert again["error"]["code"] == "run_finished"
