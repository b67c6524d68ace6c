"""Every drill but the storm, as an operator would start it."""

from collections.abc import Mapping

import pytest

from station.core.faults import POINTS
from station.embedded.drills.crash import AGAIN, EXPECTED
from tests import stack
from tests.acceptance.embedded.drilling import Finished, Running

PATIENT = ("bell", "caps", "drain", "zombie")
"""These wait most of the time, so they run side by side."""


@pytest.fixture(scope="module")
def finished() -> Mapping[str, Finished]:
    folder = stack.new_folder()
    running = {name: Running(folder / name, name) for name in PATIENT}
    return {name: each.finish() for name, each in running.items()}


def test_lost_late_and_doubled_bells_cost_no_run(finished: Mapping[str, Finished]) -> None:
    counted = finished["bell"].holds()
    assert counted["claims"] == counted["runs"] == 65
    assert counted["bells_flushed"] > 8


def test_no_cap_is_exceeded_and_nobody_starves(finished: Mapping[str, Finished]) -> None:
    counted = finished["caps"].holds()
    assert counted["most_at_once"] == counted["caps"]


def test_workers_are_replaced_without_a_run_noticing(finished: Mapping[str, Finished]) -> None:
    counted = finished["drain"].holds()
    assert counted["restarts"] == 3
    assert counted["runs_handed_back"] >= 3


def test_a_worker_that_slept_past_its_lease_does_nothing(finished: Mapping[str, Finished]) -> None:
    counted = finished["zombie"].holds()
    late = {name: number for name, number in counted.items() if name.endswith("after_waking")}
    assert late == {
        "rows_written_after_waking": 0,
        "model_requests_after_waking": 0,
        "calls_sent_after_waking": 0,
    }


def test_a_process_may_die_at_every_point() -> None:
    counted = Running(stack.new_folder() / "crash", "crash").finish().holds()
    assert counted["points"] == len(POINTS)
    assert counted["processes_killed"] == len(EXPECTED) + len(AGAIN) + len(
        ("after-wait", "after-release", "after-submit")
    )
