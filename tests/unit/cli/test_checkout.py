"""Which settings of a `station up` in the current folder a command takes."""

from pathlib import Path

import pytest

from station.cli.checkout import adopt

URL = "postgresql://station:x@127.0.0.1:1/station"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    folder = tmp_path / ".station"
    folder.mkdir()
    file = folder / "environment"
    file.write_text(
        f"STN_DATABASE_URL={URL}\nSTN_DATA_DIR=/data=dir\n\n# note\nPATH=/evil\nnonsense\n"
    )
    file.chmod(0o600)
    return file


def test_the_settings_are_taken_as_defaults(written: Path, tmp_path: Path) -> None:
    environ = {"STN_DATA_DIR": "/mine"}
    assert adopt(tmp_path, environ) is None
    assert environ == {"STN_DATA_DIR": "/mine", "STN_DATABASE_URL": URL}


@pytest.mark.parametrize("name", ["STN_DATABASE_URL", "STN_DATABASE_URL_FILE", "STN_CONFIG"])
def test_a_command_that_was_told_where_to_go_is_left_alone(
    written: Path, tmp_path: Path, name: str
) -> None:
    environ = {name: "told"}
    assert adopt(tmp_path, environ) is None
    assert environ == {name: "told"}


def test_a_setting_given_in_its_other_form_wins(written: Path, tmp_path: Path) -> None:
    written.write_text(f"STN_DATABASE_URL={URL}\nSTN_ENCRYPTION_KEY_FILE=/k\nSTN_AI_API_KEY=x\n")
    environ = {"STN_ENCRYPTION_KEY": "mine", "STN_AI_API_KEY_FILE": "/mine"}
    adopt(tmp_path, environ)
    assert environ.keys() == {"STN_ENCRYPTION_KEY", "STN_AI_API_KEY_FILE", "STN_DATABASE_URL"}


def test_without_such_a_file_nothing_happens(tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    assert adopt(tmp_path, environ) is None
    assert environ == {}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_file_that_others_may_read_or_change_is_passed_over(
    written: Path, tmp_path: Path, mode: int
) -> None:
    written.chmod(mode)
    environ: dict[str, str] = {}
    assert "chmod 600" in (adopt(tmp_path, environ) or "")
    assert environ == {}


def test_a_link_or_a_pipe_is_passed_over(written: Path, tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    real = written.rename(tmp_path / "real")
    written.symlink_to(real)
    assert adopt(tmp_path, environ) is not None
    written.unlink()
    import os

    os.mkfifo(written, 0o600)
    assert adopt(tmp_path, environ) is not None
    assert environ == {}
