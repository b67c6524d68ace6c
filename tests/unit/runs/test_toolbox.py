"""The tools of one run over the session pool: whatever fails, no other call suffers for it."""

from typing import Any

import pytest

from runs.entries import Entry, Kind
from runs.errors import ToolOutcomeUnknown
from runs.loop import Finish, run_agent
from runs.ports import ToolOutcome
from runs.replay import Brief
from runs.testing import FakeModel, MemoryJournal, answer
from runs.toolbox import CALL_KEY, GrantedTool, RunToolbox
from toolservers.definition import JsonObject, ServerDefinition
from toolservers.errors import ToolCallLost, ToolServerError, ToolServerMisbehaved, TurnedAway
from toolservers.testing import FakeSessionPool

SERVER = ServerDefinition(
    server_id=1, environment_id=1, name="s", transport="http", url="x", request_timeout=7
)


def granted(name: str, *, repeatable: bool = False) -> GrantedTool:
    return GrantedTool(
        server=SERVER, name=name, description="", input_schema={}, repeatable=repeatable
    )


def failing(error: ToolServerError) -> FakeSessionPool:
    def handler(arguments: JsonObject) -> str:
        raise error

    pool = FakeSessionPool()
    pool.add_tool("s", "note", handler)
    return pool


async def called(tools: RunToolbox, name: str = "s__note", timeout: float = 60) -> ToolOutcome:
    return await tools.call(name, {}, key="k", timeout=timeout)


async def test_a_call_carries_its_key_and_takes_no_longer_than_its_server_may() -> None:
    pool = FakeSessionPool()
    pool.add_tool("s", "note", lambda arguments: "fine")
    tools = RunToolbox([granted("note")], pool)
    assert (await called(tools)).text == "fine"
    await called(tools, timeout=3)
    assert [(each.timeout, each.meta) for each in pool.calls] == [
        (7, {CALL_KEY: "k"}),
        (3, {CALL_KEY: "k"}),
    ]


@pytest.mark.parametrize("tools", [[], [granted("look")]])
async def test_a_call_of_a_tool_that_is_gone_is_an_error_result(tools: list[GrantedTool]) -> None:
    pool = FakeSessionPool()
    box = RunToolbox(tools, pool)
    outcome = await called(box)
    assert outcome.is_error
    assert outcome.text.startswith("There is no tool 's__note' any more")
    assert not box.is_repeatable("s__note")
    assert pool.calls == []


async def test_a_repeated_call_of_a_tool_that_is_gone_does_not_hold_up_the_others() -> None:
    """A person said that both may be made again; meanwhile the server dropped one of the tools."""
    names = {"gone": "s__gone", "kept": "s__kept"}
    asked = [{"id": key, "name": name, "arguments": "{}"} for key, name in names.items()]
    journal = MemoryJournal()
    payload: dict[str, Any] = {"step": 1, "content": "", "tool_calls": asked}
    await journal.append(
        Entry(kind=Kind.MODEL_ANSWERED, payload=payload),
        *(Entry(kind=Kind.TOOL_CALLED, payload={"call_id": key}) for key in names),
        *(
            Entry(kind=Kind.DECIDED, payload={"call_id": key, "decision": "repeat"})
            for key in names
        ),
    )
    pool = FakeSessionPool()
    pool.add_tool("s", "kept", lambda arguments: "done")
    result = await run_agent(
        Brief(run_id=1, prompt="p", input="i", model="fake"),
        model=FakeModel([answer("ok")]),
        tools=RunToolbox([granted("kept")], pool),
        journal=MemoryJournal(journal.events),
    )
    assert isinstance(result, Finish)
    assert [each.tool for each in pool.calls] == ["kept"]


@pytest.mark.parametrize(
    ("error", "repeatable", "in_doubt"),
    [
        (ToolCallLost("lost"), False, True),
        (ToolCallLost("lost"), True, False),
        (ToolServerMisbehaved("odd", outcome_unknown=True), False, True),
        (ToolServerMisbehaved("odd"), False, False),
        (TurnedAway("later"), False, False),
    ],
)
async def test_only_what_may_have_happened_and_not_happen_twice_is_in_doubt(
    error: ToolServerError, repeatable: bool, in_doubt: bool
) -> None:
    tools = RunToolbox([granted("note", repeatable=repeatable)], failing(error))
    if in_doubt:
        with pytest.raises(ToolOutcomeUnknown, match=error.message):
            await called(tools)
    else:
        outcome = await called(tools)
        assert (outcome.is_error, outcome.text) == (True, error.message)
