"""Values that JSON parsers of clients let through and the database cannot hold."""

import math
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from django.db import DataError
from mcp_types import CallToolRequestParams

from mcpgw.gateway import Gateway
from mcpgw.waiting import Waiting
from runs.database import Units
from runs.hub import Hub
from runs.models import Run
from station.config import current
from tests.factories import OPERATOR
from tests.integration.mcpgw.client import in_database
from tests.integration.mcpgw.conftest import Tenant

T = TypeVar("T")


class Refusing(Units):
    """A database that refuses a value nobody looked at before."""

    refuses = False

    async def run(self, work: Callable[[], T], *, patience: float = 10.0) -> T:
        if self.refuses:
            raise DataError("value out of range")
        return await super().run(work, patience=patience)


@pytest.fixture
async def units() -> AsyncIterator[Refusing]:
    made = Refusing(threads=2)
    yield made
    made.close()


@pytest.fixture
async def gateway(transactional_db: None, units: Refusing) -> AsyncIterator[Gateway]:
    hub = Hub(current().redis.url.get_secret_value())
    yield Gateway(lambda _: OPERATOR, units, Waiting(units, hub))
    await hub.close()


async def error_of(gateway: Gateway, tool: str, **arguments: Any) -> dict[str, Any]:
    context: Any = SimpleNamespace(request=None)
    result = await gateway.call_tool(context, CallToolRequestParams(name=tool, arguments=arguments))
    assert result.is_error
    assert result.structured_content is not None
    return dict(result.structured_content["error"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", {"n": math.nan}),
        ("data", {"n": [math.inf]}),
        ("wait_seconds", math.nan),
        ("timeout", math.inf),
        ("idempotency_key", "a\0"),
        ("agent", "\ud800"),
    ],
)
async def test_a_value_that_cannot_be_stored_is_refused_at_its_argument(
    gateway: Gateway, alice: Tenant, field: str, value: Any
) -> None:
    given = {"agent": "alice-agent", "task": "Go.", "wait_seconds": 0} | {field: value}
    error = await error_of(gateway, "run_agent", **given)
    assert error["code"] == "invalid_input"
    assert error["errors"][0]["field"] == field
    assert not await in_database(Run.objects.exists)


async def test_what_only_the_database_refuses_is_input_that_is_not_valid(
    gateway: Gateway, units: Refusing
) -> None:
    units.refuses = True
    error = await error_of(gateway, "get_run", run_id=1)
    assert (error["code"], "cannot store" in error["message"]) == ("invalid_input", True)
