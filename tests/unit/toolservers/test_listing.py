"""Of a list, Station takes the tools it can use, and says why it leaves out the others."""

import json
import math
from typing import Any

import mcp_types as types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolservers.definition import LONGEST_TOOL_NAME
from toolservers.listing import MOST_TOLD, usable


def tool(name: str = "good", **more: Any) -> types.Tool:
    return types.Tool.model_validate({"name": name, "inputSchema": {"type": "object"}, **more})


def schema(default: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": {"default": default}}}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (tool(""), "'': it has no name"),
        (tool("x" * (LONGEST_TOOL_NAME + 1)), "its name has 201 characters; 200 are the most"),
        (tool("a\0b"), "'a\\x00b': its name holds NUL or half a character"),
        (tool("a\ud800"), "its name holds NUL or half a character"),
        (
            tool("a", inputSchema=schema(math.inf)),
            "'a': its input schema holds a number",
        ),
        (tool("a", inputSchema=schema(-math.inf)), "holds a number that is not finite"),
        (tool("a", inputSchema=schema({"y": [math.nan]})), "holds a number that is not finite"),
        (tool("a", inputSchema=schema(10**5000)), "holds a number that is not finite, or too long"),
        (tool("a", inputSchema=schema(nested(600))), "is nested too deeply"),
        (tool("a", inputSchema=schema(nested(5000))), "its input schema is nested too deeply"),
    ],
)
def test_a_tool_that_cannot_be_kept_is_left_out_and_named(bad: types.Tool, why: str) -> None:
    listed = usable([tool(), bad])
    assert [spec.name for spec in listed.tools] == ["good"]
    (told,) = listed.left_out
    assert why in told
    assert len(told) < 300


def test_what_can_be_mended_is_kept() -> None:
    listed = usable([tool("a", description="x\0\ud800", inputSchema=schema("\0"))])
    assert listed.left_out == ()
    (spec,) = listed.tools
    assert spec.description == "x\N{REPLACEMENT CHARACTER}?"


def test_a_tool_listed_twice_alike_is_one_tool() -> None:
    listed = usable([tool("a"), tool("b"), tool("a")])
    assert [spec.name for spec in listed.tools] == ["a", "b"]
    assert listed.left_out == ()


def test_of_a_tool_listed_twice_differently_none_is_taken() -> None:
    """Which one a call would reach, only the server knows."""
    listed = usable([tool("a"), tool("b"), tool("a", description="other"), tool("a")])
    assert [spec.name for spec in listed.tools] == ["b"]
    assert listed.left_out == ("'a': it is listed more than once, with different definitions",)


def test_a_good_tool_is_not_harmed_by_a_bad_one_of_its_name() -> None:
    listed = usable([tool("a"), tool("a", inputSchema=schema(math.inf))])
    assert [spec.name for spec in listed.tools] == []
    assert len(listed.left_out) == 1


def test_of_many_bad_tools_some_are_named_and_the_rest_counted() -> None:
    listed = usable([tool("x" * 300 + str(n)) for n in range(1000)])
    assert listed.tools == ()
    assert len(listed.left_out) == MOST_TOLD + 1
    assert listed.left_out[-1] == f"and {1000 - MOST_TOLD} more"


@given(
    st.lists(
        st.builds(
            tool,
            st.text(max_size=3) | st.text(min_size=199, max_size=202),
            inputSchema=st.dictionaries(
                st.text(max_size=2), st.floats() | st.integers() | st.text(max_size=2), max_size=3
            ),
        ),
        max_size=6,
    )
)
def test_what_is_taken_can_be_stored_and_what_is_told_can_be_read(tools: list[types.Tool]) -> None:
    listed = usable(tools)
    names = [spec.name for spec in listed.tools]
    assert len(names) == len(set(names))
    for spec in listed.tools:
        stored = json.dumps([spec.name, spec.description, spec.input_schema], allow_nan=False)
        assert "\\u0000" not in stored
        assert 0 < len(spec.name) <= LONGEST_TOOL_NAME
        assert len(spec.digest) == 64
    for told in listed.left_out:
        assert told.isprintable()
        told.encode()
