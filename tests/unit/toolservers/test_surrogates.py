"""Halves of characters in JSON are replaced; all else stays as it is, byte by byte."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolservers.surrogates import whole_characters


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (rb'"\ud83d"', rb'"\ufffd"'),
        (rb'"\uDE00 x"', rb'"\ufffd x"'),
        (rb'"\ud83d\ud83d\ude00\ude00"', rb'"\ufffd\ud83d\ude00\ufffd"'),
        (rb'"\ud83d\n"', rb'"\ufffd\n"'),
        (rb'"\\\ud83d"', rb'"\\\ufffd"'),
        (rb'"\\ud83d"', rb'"\\ud83d"'),
        (rb'"\ud83d\ude00 \ud7ff \u00e9"', rb'"\ud83d\ude00 \ud7ff \u00e9"'),
        (b'"\xf0\x9f\x98\x80"', b'"\xf0\x9f\x98\x80"'),
    ],
)
def test_only_halves_are_replaced(sent: bytes, read: bytes) -> None:
    assert whole_characters(sent) == read


_pieces = st.lists(
    st.sampled_from(["\ud83d", "\ude00", "\\", "u", "\\u", "d", '"', "\n", "x", "é", "\U0001f600"])
)


@given(_pieces)
def test_what_python_can_write_can_be_read_by_anyone(pieces: list[str]) -> None:
    text = "".join(pieces)
    mended = json.loads(whole_characters(json.dumps(text).encode()))
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert len(mended.encode("utf-16")) == len(whole.encode("utf-16"))
    assert mended.replace("\ufffd", "") == whole.replace("\ufffd", "")
