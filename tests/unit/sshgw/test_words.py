"""From a command line to words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshgw.session import words


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run list --json", ["run", "list", "--json"]),
        ("station run list", ["run", "list"]),
        ("agent run a 'do it' \"and that\"", ["agent", "run", "a", "do it", "and that"]),
        ("agent run station", ["agent", "run", "station"]),
        ("", []),
    ],
)
def test_a_line_is_read_as_a_shell_reads_it(line: str, expected: list[str]) -> None:
    assert words(line) == expected


@pytest.mark.parametrize("line", ["'open", '"open', "x" * 70_000])
def test_what_cannot_be_read_is_said(line: str) -> None:
    assert isinstance(words(line), str)


@given(st.text())
def test_no_line_breaks_it(line: str) -> None:
    words(line)


def test_nothing_is_expanded() -> None:
    assert words("a $(id) `id` $HOME ; b | c > d") == [
        "a", "$(id)", "`id`", "$HOME", ";", "b", "|", "c", ">", "d",
    ]  # fmt: skip
