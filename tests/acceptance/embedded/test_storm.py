"""A small storm, as an operator would start it."""

from pathlib import Path

from tests.acceptance.embedded.drilling import Running


def test_a_small_storm_breaks_no_promise(service_folder: Path) -> None:
    words = ("storm", "--runs", "60", "--kills", "6", "--seed", "3")
    counted = Running(service_folder / "storm", *words).finish().holds()
    assert counted["statuses"] == {"succeeded": 60}
    assert counted["kills"] == {"freeze": 1, "keeper": 2, "valkey": 1, "worker": 2}
    assert counted["runs_reclaimed"] > 0
    assert sum(counted["calls_in_doubt"].values()) > 0
