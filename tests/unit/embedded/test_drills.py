"""What a drill is made of, apart from the processes it starts."""

import ast
from datetime import UTC, datetime, timedelta
from pathlib import Path

from station.core import faults
from station.embedded.drills.caps import most_at_once
from station.embedded.drills.crash import EXPECTED
from station.embedded.drills.report import Options, percentile
from station.embedded.drills.scripts import KINDS, WRITING, kinds
from station.embedded.drills.storm import Size
from station.embedded.drills.weather import schedule

ROOT = Path(__file__).parents[3]
START = datetime(2026, 1, 1, tzinfo=UTC)
PLACES = ("station", "agents", "runs", "mcp", "sshgw")


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
    assert {victim for _, victim in plan} == {"worker", "freeze", "keeper", "valkey", "postgres"}


def test_the_runs_of_a_storm_take_as_long_as_keeps_half_of_the_slots_busy() -> None:
    large = Size.of(Options(runs=2000, kills=200))
    duration = schedule(1, 200)[-1][0]
    assert 0.4 < 2000 * large.seconds / duration / (large.crew * 10) < 0.6
    assert Size.of(Options(runs=60, kills=6)).lease < large.lease
    assert Size.of(Options(runs=10_000, kills=0)).seconds == 1.0


def test_half_of_the_time_of_a_writing_run_is_spent_in_calls_that_write() -> None:
    scripts = {script["name"]: script["turns"] for script in kinds(8.0)}
    assert scripts.keys() == set(KINDS)
    for name in ("note", "two-notes"):
        thinking = sum(turn["delay"] for turn in scripts[name])
        calling = [turn.get("tool_calls", []) for turn in scripts[name]]
        writing = sum(
            call["arguments"]["before"] + call["arguments"]["after"]
            for calls in calling
            for call in calls
            if call["name"] in WRITING
        )
        assert writing >= thinking
        assert 8.0 <= thinking + writing <= 9.0


def test_a_point_does_nothing_in_normal_use() -> None:
    for name in faults.POINTS:
        faults.point(name)


def test_only_the_drills_own_processes_put_anything_behind_a_point() -> None:
    writers = {
        path
        for path, tree in parsed().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == "point"
        and isinstance(node.ctx, ast.Store)
    }
    assert writers == {"station/embedded/drills/victim.py"}


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


def test_a_process_is_killed_at_every_point() -> None:
    other = {"after-submit", "after-wait", "after-release"}  # of no worker's first run
    assert {point for _, point, _ in EXPECTED} | other == set(faults.POINTS)


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
