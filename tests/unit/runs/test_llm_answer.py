"""Putting an answer together from a stream's bytes."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.llm.answer import MAX_ANSWER_BYTES, Assembly, stream_events
from runs.ports import ModelMalformed, ModelUnavailable, Usage


async def arriving(text: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


async def events_of(text: bytes, size: int = 7) -> list[dict[str, Any]]:
    return [event async for event in stream_events(arriving(text, size))]


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def piece(index: int, **members: Any) -> dict[str, Any]:
    return chunk(tool_calls=[{"index": index, **members}])


@given(st.lists(st.text(max_size=20), max_size=5), st.integers(min_value=1, max_value=50))
async def test_events_are_the_same_however_the_bytes_arrive(texts: list[str], size: int) -> None:
    sent = [{"text": text} for text in texts]
    stream = "".join(f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in sent)
    assert await events_of(f"{stream}data: [DONE]\n\n".encode(), size) == sent


async def test_comments_other_fields_and_carriage_returns_are_passed_over() -> None:
    stream = (
        b': ping\r\nevent: x\r\nid: 3\r\ndata:{"a": 1}\r\n\r\ndata: [DONE]\n\ndata: {"b": 2}\n\n'
    )
    assert await events_of(stream) == [{"a": 1}]


@pytest.mark.parametrize("line", [b"data: {oops\n", b"data: [1]\n", b"data:\n", b"data: \xff\n"])
async def test_an_event_that_is_no_object_is_malformed(line: bytes) -> None:
    with pytest.raises(ModelMalformed):
        await events_of(line)


def test_parallel_tool_calls_are_put_together_by_index() -> None:
    assembly = Assembly()
    for part in (
        piece(0, id="a", function={"name": "one", "arguments": ""}),
        piece(1, id="b", function={"name": "two", "arguments": '{"y"'}),
        piece(0, function={"arguments": '{"x": '}),
        piece(1, function={"arguments": ": 2}"}),
        piece(0, function={"arguments": "1}"}),
        chunk("tool_calls"),
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
    ):
        assembly.add(part)
    calls = assembly.finish()
    assert [(c.id, c.name, c.arguments) for c in calls] == [
        ("a", "one", {"x": 1}),
        ("b", "two", {"y": 2}),
    ]
    assert assembly.usage == Usage(input_tokens=3, output_tokens=4)


def test_arguments_nested_past_reading_are_kept_as_text() -> None:
    assembly = Assembly()
    assembly.add(piece(0, id="a", function={"name": "one", "arguments": "[" * 100_000}))
    assembly.add(chunk("tool_calls"))
    assert assembly.finish()[0].arguments is None


def test_an_answer_without_its_end_may_be_asked_for_again() -> None:
    assembly = Assembly()
    assembly.add(chunk(content="half"))
    with pytest.raises(ModelUnavailable):
        assembly.finish()


def test_an_error_inside_the_stream_is_told() -> None:
    with pytest.raises(ModelUnavailable, match="overloaded"):
        Assembly().add({"error": {"message": "overloaded"}})


@pytest.mark.parametrize(
    "part",
    [
        {"choices": [None]},
        {"choices": 5},
        {"choices": ["x"]},
        chunk(content=["x"]),
        chunk(tool_calls=[7]),
        chunk(tool_calls=[{"index": "x"}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": {"x": 1}}}]),
        {"usage": 3},
        {"usage": {"prompt_tokens": "many"}},
    ],
)
def test_a_chunk_of_another_shape_is_malformed(part: dict[str, Any]) -> None:
    assembly = Assembly()
    with pytest.raises(ModelMalformed):
        assembly.add(part)


def test_a_call_without_a_name_is_malformed() -> None:
    assembly = Assembly()
    assembly.add(piece(0, id="a", function={"arguments": "{}"}))
    assembly.add(chunk("tool_calls"))
    with pytest.raises(ModelMalformed):
        assembly.finish()


def test_an_answer_larger_than_the_bound_is_refused() -> None:
    assembly = Assembly()
    assembly.add(chunk(content="x" * MAX_ANSWER_BYTES))
    with pytest.raises(ModelMalformed):
        assembly.add(chunk(content="x"))
