"""Reading JSON strictly."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.core import strict_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_what_json_can_say_is_read_as_it_stands(value: object) -> None:
    assert strict_json.loads(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"n": NaN}', "NaN is no JSON"),
        ("[-Infinity]", "-Infinity is no JSON"),
        ("[1e999]", "the number 1e999 is too large"),
        ("[" * 201 + "]" * 201, "nested deeper than 200"),
        ('{"a":' * 201 + "1" + "}" * 201, "nested deeper than 200"),
        ("[" * 100_000, "nested deeper than 200"),
        ("9" * 5000, "4300 digits"),
        ("{", "Expecting"),
    ],
)
def test_what_later_readers_would_refuse_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        strict_json.loads(text)


def test_two_hundred_levels_and_many_brackets_are_no_trouble() -> None:
    assert strict_json.loads("[" * 200 + "]" * 200)
    assert len(strict_json.loads(f"[{','.join(['[]'] * 5000)}]")) == 5000
