"""deploy/systemd/: the unit, and the command it starts."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.deploy.artefacts import ROOT, STATION_VARIABLES

FOLDER = ROOT / "deploy" / "systemd"
UNIT = FOLDER / "station.service"
ANALYZE = shutil.which("systemd-analyze")
GUIDE = """\
Type=simple
User=station
Group=station
WorkingDirectory=/opt/station
ExecStart=/opt/station/station server
Restart=always
RestartSec=10
KillMode=mixed
TimeoutStopSec=30
NoNewPrivileges=true
PrivateTmp=true
ProtectSystem=strict
ProtectHome=true
ReadWritePaths=/opt/station/data
WantedBy=multi-user.target
"""


def test_the_unit_keeps_the_guides_lines() -> None:
    assert set(GUIDE.splitlines()) <= set(UNIT.read_text().splitlines())


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not on this machine")
@pytest.mark.parametrize(
    "arguments", [["verify"], ["security", "--offline=true", "--threshold=15"]], ids="-".join
)
def test_systemd_finds_no_fault_and_little_exposure(arguments: list[str], tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    # verify wants the program to be there.
    unit.write_text(UNIT.read_text().replace("/opt/station/station ", "/bin/true "))

    finished = subprocess.run(
        [str(ANALYZE), *arguments, str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_the_example_environment_names_variables_of_station() -> None:
    text = (FOLDER / "station.env.example").read_text()
    named = set(re.findall(r"^#?(STN_\w+)=", text, re.MULTILINE))

    assert named
    assert named <= STATION_VARIABLES


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The wrapper in a folder like /opt/station; the command beside it prints what it got."""
    command = tmp_path / "venv" / "bin" / "station"
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/sh\nprintf "%s|%s|%s" "$STN_LOG_LEVEL" "$STN_AI_MODEL" "$*"\n')
    command.chmod(0o755)
    return Path(shutil.copy(FOLDER / "station", tmp_path))


def _run(wrapper: Path, settings: str, **environ: str) -> subprocess.CompletedProcess[str]:
    file = wrapper.with_name("station.env")
    file.write_text(settings)
    return subprocess.run(
        ["sh", str(wrapper), "agent", "run", "a task"],
        env={"PATH": os.environ["PATH"], "STATION_ENV_FILE": str(file), **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_wrapper_takes_its_variables_from_the_file_as_they_are(installed: Path) -> None:
    finished = _run(installed, "# a comment\n\nSTN_LOG_LEVEL=warn\nSTN_AI_MODEL=$(id) `id` a=b")

    assert finished.stdout == "warn|$(id) `id` a=b|agent run a task"


def test_a_variable_that_is_set_wins_over_the_wrappers_file(installed: Path) -> None:
    finished = _run(installed, "STN_LOG_LEVEL=warn\n", STN_LOG_LEVEL="debug")

    assert finished.stdout.startswith("debug|")


def test_the_wrapper_says_which_line_it_cannot_read(installed: Path) -> None:
    finished = _run(installed, "STN_LOG_LEVEL=warn\nexport STN_AI_MODEL=x\n")

    assert finished.returncode == 2
    assert "line 2" in finished.stderr
