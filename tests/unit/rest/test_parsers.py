"""What counts as a readable request body."""

import contextlib
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import ParseError

from station.config import current
from station.core.errors import InputTooLarge
from station.rest.parsers import JsonBody


def _parse(body: bytes) -> object:
    return JsonBody().parse(io.BytesIO(body))


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"[" * 100_000, b"NaN", b'{"a": Infinity}', b"1" * 5000,
     b'{"a": "\\ud800"}', b'{"\\uDFFF": 1}'],
)  # fmt: skip
def test_what_is_not_json_is_a_parse_error(body: bytes) -> None:
    with pytest.raises(ParseError):
        _parse(body)


def test_a_body_at_the_limit_is_read_and_one_above_it_is_not() -> None:
    limit = current().api.max_body
    assert _parse(b'"' + b"x" * (limit - 2) + b'"') == "x" * (limit - 2)
    with pytest.raises(InputTooLarge, match=str(limit)):
        _parse(b'"' + b"x" * (limit - 1) + b'"')


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5).filter(str.isascii), inner),
    max_leaves=10,
)  # fmt: skip


@given(_JSON)
def test_any_json_is_read_as_it_was_written(value: object) -> None:
    assert _parse(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_a_parse_error(body: bytes) -> None:
    with contextlib.suppress(ParseError):
        json.dumps(_parse(body), ensure_ascii=False).encode()
