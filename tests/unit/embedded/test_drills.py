"""What a drill is made of, apart from the processes it starts."""

import ast
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from station.commands.session import Session
from station.core import faults
from station.core.principal import system
from station.embedded.drills.caps import most_at_once
from station.embedded.drills.command import DRILLS, DrillNotFound, drill
from station.embedded.drills.report import Options, Report, percentile
from station.embedded.drills.storm import schedule

ROOT = Path(__file__).parents[3]
START = datetime(2026, 1, 1, tzinfo=UTC)
PLACES = ("station", "agents", "runs", "mcp", "sshgw")


def session() -> tuple[Session, io.StringIO]:
    out = io.StringIO()
    return Session(principal=system("tests"), stdout=out, stderr=io.StringIO()), out


def parsed() -> dict[str, ast.Module]:
    """The sources that speak of fault points, by path."""
    files = [file for place in PLACES for file in (ROOT / place).rglob("*.py")]
    texts = {file.relative_to(ROOT).as_posix(): file.read_text() for file in files}
    return {path: ast.parse(text) for path, text in texts.items() if "faults" in text}


def test_the_same_seed_gives_the_same_storm() -> None:
    assert schedule(1, 50) == schedule(1, 50)
    assert schedule(1, 50) != schedule(2, 50)


def test_a_storm_kills_everything_there_is_in_order_of_time() -> None:
    plan = schedule(1, 200)
    times = [at for at, _ in plan]
    assert len(plan) == 200
    assert times == sorted(times)
    assert {victim for _, victim in plan} == {"worker", "keeper", "valkey", "postgres"}


def test_a_point_does_nothing_in_normal_use() -> None:
    for name in faults.POINTS:
        faults.point(name)


def test_only_the_drills_own_worker_puts_anything_behind_a_point() -> None:
    writers = {
        path
        for path, tree in parsed().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == "point"
        and isinstance(node.ctx, ast.Store)
    }
    assert writers == {"station/embedded/drills/worker.py"}


def test_every_point_is_named_in_the_code_once() -> None:
    passed = [
        node.args[0].value
        for path, tree in parsed().items()
        if not path.startswith("station/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "point"
        and isinstance(node.args[0], ast.Constant)
    ]
    assert sorted(map(str, passed)) == sorted(faults.POINTS)


def test_spans_that_touch_do_not_overlap() -> None:
    def span(begin: int, end: int) -> tuple[datetime, datetime]:
        return START + timedelta(seconds=begin), START + timedelta(seconds=end)

    assert most_at_once([]) == 0
    assert most_at_once([span(0, 2), span(2, 4)]) == 1
    assert most_at_once([span(0, 3), span(2, 4), span(2, 3), span(9, 10)]) == 3


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([], 0.99) == 0.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(n) for n in range(200)], 0.99) == 198.0


def test_a_violation_breaks_the_promise_and_is_named_in_both_forms() -> None:
    report = Report(drill="storm", promise="nothing breaks", seed=3)
    report.expect(True, "never said")
    assert report.held
    report.expect([], "one is two")
    assert not report.held
    assert "  VIOLATION one is two" in report.lines()
    assert report.as_json()["violations"] == ["one is two"]
    assert report.as_json()["held"] is False


def test_the_list_names_every_drill() -> None:
    seat, out = session()
    assert drill(seat, "list", Options(), as_json=True) == 0
    assert {each["name"] for each in json.loads(out.getvalue())} == set(DRILLS)
    seat, out = session()
    assert drill(seat, "list", Options(), as_json=False) == 0
    assert out.getvalue().count("\n") == len(DRILLS)


def test_an_unknown_drill_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(DrillNotFound) as refused:
        drill(session()[0], "picnic", Options(), as_json=False)
    assert "storm" in str(refused.value.fix)
