"""What is refused because PostgreSQL cannot store it, and where it says it is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.core import storable
from station.core.errors import InvalidInput

DEEP: Any = 1
for _ in range(storable.DEEPEST):
    DEEP = [DEEP]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x\udfff"])
def test_a_text_that_cannot_be_stored_is_refused_at_its_field(text: str) -> None:
    with pytest.raises(InvalidInput, match="name: contains a NUL") as caught:
        storable.check_text("name", text)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, {"b": float("nan")}]}, "'a[1].b'"),
        ({"a": float("-inf")}, "'a'"),
        (["x", "\0"], "'[1]'"),
        ({"a": {"\ud800": 1}}, "'a'"),
        ({"\0": 1}, "'its top'"),
        ({"x": ("\0",)}, "'x[0]'"),
    ],
)
def test_a_value_that_cannot_be_stored_is_refused_where_it_is(value: Any, where: str) -> None:
    with pytest.raises(InvalidInput, match="data: holds at ") as caught:
        storable.check_json("data", value)
    assert where in caught.value.problem
    assert caught.value.problem.isprintable()


def test_texts_that_are_cleaned_later_are_let_through() -> None:
    storable.check_json("data", {"\0": ["\ud800"]}, texts=False)
    with pytest.raises(InvalidInput):
        storable.check_json("data", {"\0": [float("inf")]}, texts=False)


def test_a_value_is_nested_so_deep_and_no_deeper() -> None:
    storable.check_json("data", DEEP)
    with pytest.raises(InvalidInput, match="nested"):
        storable.check_json("data", {"x": DEEP})


@given(JSON)
def test_what_is_let_through_is_json_that_utf_8_can_write(value: Any) -> None:
    try:
        storable.check_json("data", value)
    except InvalidInput:
        return
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in text
    assert text.encode()
