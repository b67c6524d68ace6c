from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.config.problems import Refused
from station.config.quantities import (
    format_duration,
    format_size,
    parse_duration,
    parse_size,
    parse_whole_number,
)

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("5m", 300.0),
        ("24h", 86400.0),
        ("1h", 3600.0),
        ("250ms", 0.25),
        ("7d", 604800.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("0.25s", 0.25),
        ("0s", 0.0),
        (" 2m ", 120.0),
        ("1d2h3m4s5ms", 93784.005),
    ],
)
def test_a_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "30",
        "s",
        "-5s",
        "+5s",
        "5 s",
        "5S",
        "1s1m",
        "1s1s",
        "1e3s",
        "5sec",
        ".5s",
        "1.s",
        "٣s",
        "0.5ms",
        "1s\n2s",
        30,
        1.5,
        True,
        None,
        "9999999999s",
    ],
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(Refused):
        parse_duration(value)


@given(st.integers(0, 10**12))
def test_a_duration_survives_being_written_and_read(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    if milliseconds < 10**9:
        assert parse_duration(format_duration(seconds)) == seconds


@given(st.lists(st.integers(0, 10**6), min_size=4, max_size=4))
def test_the_parts_of_a_duration_add_up(amounts: list[int]) -> None:
    text = "".join(f"{amount}{unit}" for amount, unit in zip(amounts, UNITS, strict=True))
    total = sum(amount * size for amount, size in zip(amounts, UNITS.values(), strict=True))
    assert parse_duration(text) == total


@given(st.text(alphabet="0123456789.dhms -+e", max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except Refused:
        return
    assert seconds >= 0
    assert any(unit in text for unit in UNITS)


def test_durations_are_written_in_their_largest_whole_unit() -> None:
    written = [format_duration(s) for s in (0.0, 0.25, 1.0, 90.0, 300.0, 5400.0, 86400.0)]
    assert written == ["0s", "250ms", "1s", "90s", "5m", "90m", "24h"]


@given(st.integers(0, 10**15 - 1))
def test_a_size_survives_being_written_and_read(count: int) -> None:
    assert parse_size(format_size(count)) == count


def test_sizes_are_read_in_binary_units() -> None:
    sizes = [parse_size(value) for value in ("0", "7", "7B", "1KiB", "1 MiB", "2GiB", 65536)]
    assert sizes == [0, 7, 7, 1 << 10, 1 << 20, 2 << 30, 65536]
    assert all(small < large for small, large in pairwise(sizes[3:6]))


@pytest.mark.parametrize("value", ["", "1MB", "1.5MiB", "-1", "MiB", True, 1.5, None])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(Refused):
        parse_size(value)


@pytest.mark.parametrize("value", ["", "x", "1.0", "1_000", "0x10", "1e3", True, 1.0, None, "٣"])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(Refused):
        parse_whole_number(value)


@given(st.integers(-(10**17), 10**17))
def test_a_whole_number_is_read_from_its_text(number: int) -> None:
    assert parse_whole_number(str(number)) == parse_whole_number(number) == number
