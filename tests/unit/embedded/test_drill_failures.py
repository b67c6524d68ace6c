"""A drill that could not be carried out says why and what to do, and what it left is kept."""

import json
import subprocess
from pathlib import Path

import pytest
from django.db import OperationalError
from redis.exceptions import ConnectionError as BrokerGone

from station.core.errors import StationError
from station.embedded.drills.failures import BUSY, DrillFailed, NotInTime, explained, keep
from station.embedded.drills.report import Report
from station.embedded.errors import EmbeddedMissing, ServiceFailed
from tests.unit.embedded.histories import record


def report(kept: Path | None = None) -> Report:
    return Report(drill="storm", promise="nothing breaks", kept=kept)


@pytest.mark.parametrize(
    ("error", "said", "fix"),
    [
        (OSError(28, "No space left on device"), "No space left on device", "TMPDIR"),
        (subprocess.TimeoutExpired("initdb", 120), "initdb", "TMPDIR"),
        (OperationalError("connection refused\nmore"), "connection refused", BUSY),
        (BrokerGone("no broker"), "no broker", BUSY),
        (EmbeddedMissing("none", fix="Set STN_DATABASE_URL."), "none", "Install station[embedded]"),
        (ServiceFailed("It ended.", fix="See /tmp/x."), "It ended.", "See /tmp/x."),
        (NotInTime("Waited 90 s.", fix=BUSY), "Waited 90 s.", BUSY),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_the_machine_does_to_a_drill_is_no_bug_and_has_a_fix(
    error: Exception, said: str, fix: str
) -> None:
    with pytest.raises(DrillFailed) as failed, explained(report()):
        raise error
    assert said in failed.value.message
    assert "\n" not in failed.value.message
    assert fix in failed.value.fix
    assert "STN_" not in failed.value.fix


def test_the_logs_that_were_kept_are_named(tmp_path: Path) -> None:
    with pytest.raises(DrillFailed) as failed, explained(report(tmp_path)):
        raise ServiceFailed("It ended.", fix="See a folder that is gone.")
    assert failed.value.fix == f"Its logs are in {tmp_path}."


@pytest.mark.parametrize("error", [BrokenPipeError(), KeyboardInterrupt(), ValueError()])
def test_a_reader_that_left_and_a_bug_are_no_failures_of_the_machine(error: BaseException) -> None:
    with pytest.raises(type(error)), explained(report()):
        raise error


def test_what_is_kept_are_logs_and_journals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / "drill"
    (folder / "data").mkdir(parents=True)
    for name in ("log", "sink", "postgres.log", "config.yaml", "postgres.password"):
        (folder / name).write_text(name)
    kept = keep(folder, "storm", [record()])
    assert kept is not None
    assert kept.name.startswith("station-broken-storm-")
    assert {file.name for file in kept.iterdir()} == {
        "log", "sink", "postgres.log", "config.yaml", "journals.json",
    }  # fmt: skip
    (journal,) = json.loads((kept / "journals.json").read_text())
    assert (journal["run_id"], len(journal["journal"])) == (7, 7)


def test_where_nothing_can_be_kept_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / "drill"
    (folder / "log").mkdir(parents=True)  # cannot be copied as a file
    assert keep(folder, "storm", []) is None
    assert list(tmp_path.iterdir()) == [folder]


def test_a_failed_drill_is_an_expected_failure() -> None:
    assert issubclass(DrillFailed, StationError)
