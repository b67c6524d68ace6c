"""Names, schemas and argument checks of the tools."""

import re

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import Tool

from mcpgw import catalog
from station.core.errors import InvalidInput

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)


@given(NAMES, NAMES)
def test_every_tool_name_is_one_that_models_accept(environment: str, agent: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", catalog.tool_name(environment, agent))


@given(st.tuples(NAMES, NAMES), st.tuples(NAMES, NAMES))
def test_two_agents_never_share_a_name(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (catalog.tool_name(*one) == catalog.tool_name(*other)) is (one == other)


def test_names_that_differ_only_at_the_end_stay_apart() -> None:
    names = {catalog.tool_name("e" * 63, "a" * 62 + last) for last in "abc"}
    assert len(names) == 3


def test_no_agents_tool_is_called_like_a_fixed_one() -> None:
    assert not any(name.startswith(f"{catalog.PREFIX}_") for name in catalog.FIXED)


@pytest.mark.parametrize("tool", catalog.FIXED.values(), ids=lambda tool: tool.name)
def test_every_schema_is_one_and_closed(tool: Tool) -> None:
    jsonschema.Draft202012Validator.check_schema(tool.input_schema)
    assert tool.input_schema["additionalProperties"] is False


def test_what_is_missing_is_told_before_what_is_wrong() -> None:
    with pytest.raises(InvalidInput, match='"task" is a required property') as caught:
        catalog.check(catalog.AGENT_SCHEMA, {"data": 5})
    assert "task, data" in caught.value.fix


def test_a_wrong_argument_is_named_by_its_path() -> None:
    with pytest.raises(InvalidInput) as caught:
        catalog.check(catalog.AGENT_SCHEMA, {"task": "x", "data": 5})
    assert caught.value.field == "data"


def test_a_huge_wrong_argument_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidInput) as caught:
        catalog.check(catalog.AGENT_SCHEMA, {"task": ["x" * 100_000]})
    assert len(caught.value.problem) <= 300


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(),
            lambda v: st.lists(v) | st.dictionaries(st.text(), v),
        ),
    )
)
def test_no_arguments_break_the_check(arguments: dict[str, object]) -> None:
    for tool in catalog.FIXED.values():
        try:
            catalog.check(tool.input_schema, arguments)
        except InvalidInput:
            continue
