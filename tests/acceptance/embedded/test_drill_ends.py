"""How a drill ends that does not hold: what it says, what it keeps, and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from station.commands.exits import Exit
from tests.acceptance.embedded.drilling import Running

_ENDING = """
import json
from station.embedded.drills.failures import DrillFailed
from station.embedded.drills.report import Report
from station.embedded.drills.stack import staged

report = Report(drill="tested", promise="it holds")
try:
    with staged(report, lambda line: None):
        from agents import services as agents
        from runs import services
        from station.accounts import services as accounts
        from station.core.principal import system

        by = system("tests")
        place = accounts.create_environment(by, name="drill").pk
        definition = agents.Definition(prompt="You drill.")
        agent = agents.create(by, environment_id=place, name="agent", definition=definition)
        run = services.submit(by, agent, services.Request(input="drill", data={{}})).pk
        {what}
except DrillFailed as failed:
    report.expect(False, failed.message)
print(json.dumps([str(report.kept), report.violations]))
"""
BROKEN = 'report.expect(False, "it does not", run=run)'
FAILED = 'raise OSError(28, "No space left on device")'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
def test_a_signal_stops_a_drill_as_ctrl_c_does_and_leaves_nothing(
    number: signal.Signals, service_folder: Path
) -> None:
    drill = Running(service_folder / "tmp", "caps")
    drill.hear("starting")
    drill.process.send_signal(number)
    ended = drill.finish()
    assert ended.returncode == Exit.INTERRUPTED
    assert f"stopped by {number.name}" in ended.said
    assert (ended.report["carried_out"], ended.report["reason"]) == (False, number.name)
    assert ended.left == []


@pytest.mark.parametrize(
    ("what", "said"), [(BROKEN, "run 1: it does not"), (FAILED, "No space left on device")]
)
def test_a_drill_that_does_not_hold_keeps_logs_and_journals_and_nothing_else(
    what: str, said: str, service_folder: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _ENDING.format(what=what)],
        env={**os.environ, "TMPDIR": str(service_folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    path, (violation,) = json.loads(ended.stdout)
    assert said in violation
    (kept,) = service_folder.iterdir()
    assert path == str(kept)
    assert {"journals.json", "postgres.log", "valkey.log"} <= {each.name for each in kept.iterdir()}
    (journal,) = json.loads((kept / "journals.json").read_text())
    assert [entry["kind"] for entry in journal["journal"]] == ["run.submitted"]


def test_the_next_drill_removes_what_a_killed_one_left(service_folder: Path) -> None:
    killed = Running(service_folder / "tmp", "caps")
    killed.hear("claimers")
    killed.process.kill()
    (left,) = killed.finish().left
    following = Running(service_folder / "tmp", "caps")
    following.hear("starting")
    assert not left.exists()
    following.process.send_signal(signal.SIGINT)
    assert following.finish().left == []
