import multiprocessing
import stat
from pathlib import Path

from station.embedded import files


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_password_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "service.password"
    password, is_new = files.stored_password(path)
    assert is_new
    assert len(password) >= 32
    assert mode(path) == 0o600
    assert files.stored_password(path) == (password, False)


def test_two_folders_have_different_passwords(tmp_path: Path) -> None:
    first, _ = files.stored_password(tmp_path / "a")
    second, _ = files.stored_password(tmp_path / "b")
    assert first != second


def test_a_folder_that_exists_keeps_its_permissions(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o700)
    files.make_folder(folder)
    assert mode(folder) == 0o700


def test_a_new_folder_cannot_be_listed_by_others(tmp_path: Path) -> None:
    folder = tmp_path / "above" / "new"
    files.make_folder(folder)
    assert mode(folder) & 0o066 == 0


def test_a_log_is_appended_to_and_private(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    for text in (b"one\n", b"two\n"):
        with open(files.open_log(path), "wb") as log:
            log.write(text)
    assert path.read_bytes() == b"one\ntwo\n"
    assert mode(path) == 0o600


def test_a_log_grown_too_long_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"x" * (files.LOG_KEPT_BYTES + 1))
    open(files.open_log(path), "wb").close()
    assert path.read_bytes() == b""
    assert path.with_name("x.log.1").stat().st_size == files.LOG_KEPT_BYTES + 1


def _hold(path: Path, entered: Path) -> None:
    with files.locked(path):
        entered.touch()


def test_a_lock_keeps_other_processes_out_until_it_is_released(tmp_path: Path) -> None:
    entered = tmp_path / "entered"
    other = multiprocessing.get_context("spawn").Process(
        target=_hold, args=(tmp_path / "lock", entered)
    )
    with files.locked(tmp_path / "lock"):
        other.start()
        other.join(1)
        assert other.is_alive()
        assert not entered.exists()
    other.join(20)
    assert entered.exists()
