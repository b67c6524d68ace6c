"""The fake session pool behaves like the real one where tests rely on it."""

import pytest

from toolservers.definition import JsonObject, ServerDefinition, ToolResult, ToolSessions
from toolservers.errors import ToolRefused
from toolservers.testing import FakeSessionPool

DEFINITION = ServerDefinition(server_id=1, environment_id=2, name="s", transport="http", url="x")


async def test_the_fake_answers_by_handlers_and_remembers_its_calls() -> None:
    async def later(arguments: JsonObject) -> ToolResult:
        return ToolResult(text=f"later {arguments['n']}", is_error=True)

    pool = FakeSessionPool()
    pool.add_tool("s", "now", lambda arguments: f"now {arguments['n']}")
    pool.add_tool("s", "later", later)
    sessions: ToolSessions = pool
    now = await sessions.call(DEFINITION, "now", {"n": 1}, timeout=1, repeatable=False)
    then = await sessions.call(DEFINITION, "later", {"n": 2}, timeout=2, repeatable=True)
    assert now == ToolResult(text="now 1")
    assert then == ToolResult(text="later 2", is_error=True)
    assert [(call.environment_id, call.tool, call.repeatable) for call in pool.calls] == [
        (2, "now", False),
        (2, "later", True),
    ]
    assert [tool.name for tool in (await sessions.list_tools(DEFINITION)).tools] == ["now", "later"]


async def test_the_fake_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ToolRefused):
        await FakeSessionPool().call(DEFINITION, "x", {}, timeout=1, repeatable=False)
