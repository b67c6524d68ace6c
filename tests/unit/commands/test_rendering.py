"""Tables, fields, JSON and words."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.commands.rendering import Painted, fields, show_json, table
from station.commands.text import (
    age,
    count,
    dollars,
    duration,
    iso,
    one_line,
    printable,
    to_json,
)
from tests.unit.commands.seats import seat, written

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
RED = Painted(text="bad", style="red")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"), (0.0312, "31 ms"), (0.0996, "0.1 s"), (1.23, "1.2 s"), (12.4, "12 s"),
        (59.7, "1 m 00 s"), (185, "3 m 05 s"), (3600, "1 h 00 m"), (187_200, "2 d 4 h"),
    ],
)  # fmt: skip
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("ago", "text"),
    [(0.2, "now"), (65, "1 m 05 s ago"), (-90, "in 1 m 30 s")],
)
def test_an_age_is_told_from_now(ago: float, text: str) -> None:
    assert age(NOW - timedelta(seconds=ago), lambda: NOW) == text
    assert age(None) == "-"


@pytest.mark.parametrize(
    ("amount", "text"),
    [(Decimal("0.00123000"), "$0.00123"), (0, "$0.00"), ("2.5", "$2.50"), (None, "-")],
)
def test_dollars_have_two_to_six_decimals(amount: Decimal | None, text: str) -> None:
    assert dollars(amount) == text


def test_a_count_agrees_with_its_noun() -> None:
    assert (count(1, "run"), count(0, "run")) == ("1 run", "0 runs")


@given(st.text())
def test_printable_text_cannot_steer_a_terminal(text: str) -> None:
    shown = printable(text)
    assert not any(ord(c) < 32 and c not in "\n\t" for c in shown)
    assert not any(0x7F <= ord(c) <= 0x9F or c in "\u202e\u2066" for c in shown)
    shown.encode()


@given(st.text())
def test_json_is_complete_and_cannot_steer_a_terminal(text: str) -> None:
    shown = to_json({"text": text})
    assert json.loads(shown) == {"text": text}
    assert printable(shown) == shown
    assert "\n" not in shown


def test_json_writes_times_and_decimals_as_the_rest_api_does() -> None:
    assert json.loads(to_json({"at": NOW, "cost": Decimal("1E-8")})) == {
        "at": "2026-01-31T12:00:00Z",
        "cost": "0.00000001",
    }
    assert iso(NOW.astimezone()) == "2026-01-31T12:00:00Z"


def test_one_line_is_cut_with_an_ellipsis() -> None:
    assert one_line("a\n  b\tc", 4) == "a b…"


def test_a_plain_table_is_aligned_and_nothing_is_cut() -> None:
    session = seat(width=20)
    long = "x" * 60
    table(session, ["N", "NAME", "S"], [[1, long, RED], [22, "日本", None]], right=["N"], empty="")
    assert written(session.stdout) == (
        f" N  {'NAME':<60}  S\n 1  {long}  bad\n22  日本{' ' * 56}  -\n"
    )


def test_a_watched_table_stays_within_the_width() -> None:
    session = seat(width=30, interactive=True)
    table(session, ["A", "B"], [["x" * 50, "y" * 50]], empty="")
    lines = written(session.stdout).splitlines()
    assert max(map(len, lines)) <= 30
    assert sum(line.count("x") for line in lines) == 50


def test_colour_appears_only_where_it_is_wanted() -> None:
    for color in (True, False):
        session = seat(interactive=True, color=color)
        table(session, ["S"], [[RED]], empty="")
        fields(session, [("state", RED)])
        assert ("\x1b[" in written(session.stdout)) is color


def test_a_cell_cannot_steer_the_terminal_or_add_a_row() -> None:
    for interactive in (True, False):
        session = seat(interactive=interactive)
        table(session, ["A"], [["a\x1b[2J\nb [red]c"]], empty="")
        assert [line.rstrip() for line in written(session.stdout).splitlines()] == [
            "A", "a[2J b [red]c",
        ]  # fmt: skip


def test_an_empty_table_says_so_on_stderr() -> None:
    session = seat()
    table(session, ["A"], [], empty="There is none.")
    assert (written(session.stdout), written(session.stderr)) == ("", "There is none.\n")


def test_fields_without_a_value_are_left_out() -> None:
    session = seat()
    fields(session, [("id", 1), ("nothing", ""), ("none", None), ("zero", 0), ("long name", "x")])
    assert written(session.stdout) == "id         1\nzero       0\nlong name  x\n"


def test_json_is_indented_for_a_person_only() -> None:
    for interactive, text in ((False, '{"a": 1}\n'), (True, '{\n  "a": 1\n}\n')):
        session = seat(interactive=interactive)
        show_json(session, {"a": 1})
        assert written(session.stdout) == text
