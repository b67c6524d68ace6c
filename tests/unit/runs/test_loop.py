"""The agent loop with fake model, tools and journal."""

import json
from collections.abc import Sequence

import pytest

from runs.entries import Event, Kind
from runs.errors import LeaseLost, OutputInvalid, StepLimitReached
from runs.loop import Finish, Pause, run_agent
from runs.ports import ModelAnswer, ModelFailure, ModelUnavailable
from runs.replay import Brief
from runs.testing import FakeModel, FakeToolbox, MemoryJournal, answer, call

BRIEF = Brief(run_id=1, prompt="You help.", input="Do it.", model="fake")


def brief(**changes: object) -> Brief:
    return Brief(**{**vars(BRIEF), **changes})


async def run(
    answers: Sequence[ModelAnswer | ModelFailure],
    tools: FakeToolbox | None = None,
    journal: MemoryJournal | None = None,
    **changes: object,
) -> tuple[Finish | Pause, FakeModel, MemoryJournal]:
    model, journal = FakeModel(answers), journal or MemoryJournal()
    result = await run_agent(
        brief(**changes), model=model, tools=tools or FakeToolbox({}), journal=journal
    )
    return result, model, journal


def kinds(journal: MemoryJournal) -> list[str]:
    return [event.kind.value for event in journal.events]


async def test_an_answer_without_calls_finishes_the_run() -> None:
    result, model, journal = await run([answer("Done.")])
    assert isinstance(result, Finish)
    assert (result.output, result.spent.steps, result.spent.input_tokens) == ("Done.", 1, 10)
    assert [m.role for m in model.requests[0].messages] == ["system", "user"]
    assert journal.events == []  # the last answer is stored together with the ending
    assert journal.deltas == ["Done."]


async def test_the_intent_of_a_call_is_recorded_before_the_call_is_made() -> None:
    journal = MemoryJournal()
    seen: list[list[str]] = []

    def tool(_: dict[str, object]) -> str:
        seen.append(kinds(journal))
        return "42"

    tools = FakeToolbox({"t": tool})
    result, model, _ = await run([answer("", call("t", {"a": 1})), answer("42.")], tools, journal)
    assert isinstance(result, Finish)
    assert seen == [["model.answered", "tool.called"]]
    assert kinds(journal) == ["model.answered", "tool.called", "tool.returned"]
    assert [m.role for m in model.requests[1].messages] == ["system", "user", "assistant", "tool"]
    assert tools.calls == [("t", {"a": 1}, "1:1:0")]


async def test_parallel_calls_are_answered_to_the_model_in_the_order_it_asked() -> None:
    tools = FakeToolbox({"a": lambda _: "A", "b": lambda _: "B"})
    _, model, _ = await run([answer("", call("b"), call("a")), answer("ok")], tools)
    assert [m.content for m in model.requests[1].messages[-2:]] == ["B", "A"]


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (call("nope"), "there is no tool 'nope'; there are: t"),
        (call("t", "{broken"), "the arguments are not a JSON object: Expecting"),
        (call("t", '["list"]'), "the arguments are not a JSON object: it is something else"),
        (call("t", '{"n": NaN}'), "the arguments are not a JSON object: NaN is no JSON"),
        (call("t", '{"n": 1e999}'), "the arguments are not a JSON object: the number 1e999"),
        (call("t", {"n": "one"}), '[\'n\'] "one" is not of type "integer"'),
    ],
)
async def test_a_call_that_cannot_be_made_becomes_an_error_the_model_reads(
    asked: object, complaint: str
) -> None:
    tools = FakeToolbox(
        {"t": lambda _: "x"}, schemas={"t": {"properties": {"n": {"type": "integer"}}}}
    )
    _, model, journal = await run([answer("", asked), answer("ok")], tools)  # type: ignore[arg-type]
    assert model.requests[1].messages[-1].content.startswith(f"Error: {complaint}")
    assert kinds(journal) == ["model.answered", "tool.returned"]
    assert tools.calls == []


async def test_calls_without_usable_ids_get_ids_of_their_own() -> None:
    tools = FakeToolbox({"t": lambda arguments: str(arguments["n"])})
    twins = [call("t", {"n": n}, call_id="same") for n in (1, 2)]
    _, model, _ = await run([answer("", *twins), answer("ok")], tools)
    assert [m.content for m in model.requests[1].messages[-2:]] == ["1", "2"]


async def test_a_flood_of_parallel_calls_is_cut_off() -> None:
    tools = FakeToolbox({"t": lambda _: "x"})
    flood = [call("t", call_id=str(n)) for n in range(200)]
    _, model, _ = await run([answer("", *flood), answer("ok")], tools)
    assert len(tools.calls) == 64
    assert "more than 64 calls" in model.requests[1].messages[-1].content


async def test_a_run_that_uses_all_its_steps_fails() -> None:
    tools = FakeToolbox({"t": lambda _: "x"})
    with pytest.raises(StepLimitReached, match="its 3 steps"):
        await run([answer("", call("t"))] * 4, tools, max_steps=3)
    assert len(tools.calls) == 3


async def test_nothing_is_sent_once_the_lease_is_lost() -> None:
    journal = MemoryJournal()

    def lose(_: dict[str, object]) -> str:
        journal.lost = True
        return "late"

    tools = FakeToolbox({"a": lose, "b": lambda _: "B"})
    with pytest.raises(LeaseLost):
        await run([answer("", call("a"), call("b")), answer("never")], tools, journal)
    assert [name for name, _, _ in tools.calls] == ["a"]


# --- resuming ---------------------------------------------------------------------------------


async def interrupted(
    tools: FakeToolbox, *calls: object, history: Sequence[Event] = ()
) -> list[Event]:
    """The journal of a run whose worker died after it had announced the calls."""
    journal = MemoryJournal(history)

    def die(_: dict[str, object]) -> str:
        journal.lost = True
        raise LeaseLost

    dying = FakeToolbox(dict.fromkeys(tools.tools, die), schemas=tools.schemas)
    with pytest.raises(LeaseLost):
        await run([answer("", *calls)], dying, journal)  # type: ignore[arg-type]
    return journal.events


def continued(history: Sequence[Event], *told: tuple[Kind, dict[str, object]]) -> list[Event]:
    """A journal with entries that the loop does not write: they come from outside of it."""
    at, seq = history[-1].at, len(history)
    return [
        *history,
        *(
            Event(seq=seq + number, kind=kind, at=at, payload=payload)
            for number, (kind, payload) in enumerate(told, 1)
        ),
    ]


async def test_recorded_results_are_not_asked_for_again() -> None:
    tools = FakeToolbox({"t": lambda _: "42"})
    _, _, first = await run([answer("", call("t")), answer("ok")], tools)
    resumed = FakeToolbox({"t": lambda _: "43"})
    result, model, _ = await run([answer("ok")], resumed, MemoryJournal(first.events))
    assert isinstance(result, Finish)
    assert resumed.calls == []
    assert model.requests[0].messages[-1].content == "42"


async def test_a_repeatable_call_in_doubt_is_announced_and_made_again() -> None:
    tools = FakeToolbox({"t": lambda _: "42"}, repeatable=frozenset({"t"}))
    history = await interrupted(tools, call("t"))
    result, _, journal = await run([answer("ok")], tools, MemoryJournal(history))
    assert isinstance(result, Finish)
    assert tools.calls == [("t", {}, "1:1:0")]
    again = journal.events[2]
    assert (again.kind, again.payload["attempt"]) == (Kind.TOOL_CALLED, 2)


async def test_a_writing_call_in_doubt_pauses_the_run() -> None:
    tools = FakeToolbox({"w": lambda _: "x", "r": lambda _: "r"}, repeatable=frozenset({"r"}))
    history = await interrupted(tools, call("w"), call("r"))
    result, model, _ = await run([], tools, MemoryJournal(history))
    assert isinstance(result, Pause)
    assert [open_call.call.name for open_call in result.calls] == ["w"]
    assert [name for name, _, _ in tools.calls] == ["r"]
    assert model.requests == []


async def test_a_live_call_whose_outcome_is_unknown_pauses_the_run() -> None:
    tools = FakeToolbox({"w": lambda _: None})
    result, _, _ = await run([answer("", call("w"))], tools)
    assert isinstance(result, Pause)
    assert result.calls[0].in_doubt


@pytest.mark.parametrize(
    ("decision", "made", "reads"),
    [
        ({"decision": "happened", "result": "it was done"}, 0, "it was done"),
        ({"decision": "repeat"}, 1, "x"),
    ],
)
async def test_a_decided_call_is_taken_as_done_or_made_again(
    decision: dict[str, str], made: int, reads: str
) -> None:
    tools = FakeToolbox({"w": lambda _: "x"})
    history = await interrupted(tools, call("w"))
    decided = continued(history, (Kind.DECIDED, {"call_id": "call-w", "by": "alice", **decision}))
    result, model, _ = await run([answer("ok")], tools, MemoryJournal(decided))
    assert isinstance(result, Finish)
    assert len(tools.calls) == made
    assert model.requests[0].messages[-1].content == reads


async def test_a_call_to_repeat_whose_tool_is_gone_is_answered_with_an_error() -> None:
    history = await interrupted(
        FakeToolbox({"w": lambda _: "x", "v": lambda _: "v"}), call("w"), call("v")
    )
    payload = {"by": "alice", "decision": "repeat"}
    decided = [
        Event(seq=9 + n, kind=Kind.DECIDED, at=history[-1].at, payload={**payload, "call_id": name})
        for n, name in enumerate(("call-w", "call-v"))
    ]
    left = FakeToolbox({"v": lambda _: "v"})
    result, model, journal = await run([answer("ok")], left, MemoryJournal([*history, *decided]))
    assert isinstance(result, Finish)
    assert [name for name, _, _ in left.calls] == ["v"]
    gone, made = model.requests[0].messages[-2:]
    assert gone.content == "Error: there is no tool 'w'; there are: v"
    assert made.content == "v"
    assert kinds(journal)[-3:] == ["tool.returned", "tool.called", "tool.returned"]


async def test_a_person_is_asked_again_about_a_repeated_call_that_comes_into_doubt_again() -> None:
    tools = FakeToolbox({"w": lambda _: "x"})
    repeat: dict[str, object] = {"call_id": "call-w", "decision": "repeat", "by": "alice"}
    decided = continued(
        await interrupted(tools, call("w")),
        (Kind.RELEASED, {"reason": "lease_expired"}),
        (Kind.CLAIMED, {"worker": "2"}),
        (Kind.WAITING, {"reason": "doubt"}),
        (Kind.DECIDED, repeat),
        (Kind.CLAIMED, {"worker": "3"}),
    )
    died_again = continued(
        await interrupted(tools, history=decided),
        (Kind.RELEASED, {"reason": "lease_expired"}),
        (Kind.CLAIMED, {"worker": "4"}),
    )
    called = [event.payload["attempt"] for event in died_again if event.kind is Kind.TOOL_CALLED]
    assert called == [1, 2]
    result, model, journal = await run([], tools, MemoryJournal(died_again))
    assert isinstance(result, Pause)
    assert [each.call.id for each in result.calls] == ["call-w"]
    assert (tools.calls, model.requests) == ([], [])
    assert journal.events == died_again


# --- structured answers -----------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


async def test_an_answer_that_matches_its_schema_is_returned_as_a_value() -> None:
    result, model, _ = await run([answer('```json\n{"n": 1}\n```')], output_schema=SCHEMA)
    assert isinstance(result, Finish)
    assert result.output_data == {"n": 1}
    assert json.dumps(SCHEMA) in model.requests[0].messages[0].content


async def test_an_answer_that_breaks_its_schema_may_be_mended_once() -> None:
    result, model, journal = await run([answer("{}"), answer('{"n": 2}')], output_schema=SCHEMA)
    assert isinstance(result, Finish)
    assert result.output_data == {"n": 2}
    assert '"n" is a required property' in model.requests[1].messages[-1].content
    assert kinds(journal) == ["model.answered", "output.rejected"]


async def test_an_answer_with_a_number_that_is_none_may_be_mended() -> None:
    result, model, _ = await run([answer('{"n": NaN}'), answer('{"n": 2}')], output_schema=SCHEMA)
    assert isinstance(result, Finish)
    assert "NaN is no JSON" in model.requests[1].messages[-1].content


async def test_an_answer_that_stays_wrong_fails_the_run() -> None:
    with pytest.raises(OutputInvalid, match="not JSON"):
        await run([answer("{}"), answer("sorry")], output_schema=SCHEMA)


async def test_a_failing_model_fails_the_run() -> None:
    with pytest.raises(ModelUnavailable):
        await run([ModelUnavailable()])
