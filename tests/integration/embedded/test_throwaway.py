"""Throw-away folders: in use as long as their process lives, and swept when it does not."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from station.embedded import throwaway

PREFIX = "station-throwaway-"
HOLDER = """
import sys, time
from station.embedded import throwaway
print(throwaway.new_folder(sys.argv[1]), flush=True)
time.sleep(600)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


@pytest.fixture
def holder(place: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, PREFIX]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_a_folder_goes_when_its_process_is_gone_and_not_before(
    place: Path, holder: subprocess.Popen[str]
) -> None:
    assert holder.stdout is not None
    theirs = Path(holder.stdout.readline().strip())
    mine = throwaway.new_folder(PREFIX)
    throwaway.sweep(PREFIX)
    assert theirs.is_dir()
    assert mine.is_dir()
    holder.kill()
    holder.wait()
    throwaway.sweep(PREFIX)
    assert not theirs.exists()
    assert mine.is_dir()


def test_others_folders_are_left_alone(place: Path) -> None:
    for name in ("station-other-1", f"{PREFIX}without-mark"):
        (place / name).mkdir()
    (place / "station-other-1" / "in-use").touch()
    throwaway.sweep(PREFIX)
    assert len(list(place.iterdir())) == 2


def test_any_user_can_pass_through_and_only_its_owner_can_look(place: Path) -> None:
    assert throwaway.new_folder(PREFIX).stat().st_mode & 0o777 == 0o711
