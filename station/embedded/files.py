"""Small files and folders that services share: passwords, logs, locks."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

LOG_KEPT_BYTES = 8 * 1024 * 1024


def make_folder(path: Path) -> None:
    """Create a folder (and its parents) for us alone; one that exists keeps its permissions.

    Made by root, others may pass through it but not list it: the account a service drops to must
    reach its own folder below. The things inside carry their own permissions.
    """
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        path.chmod(0o711 if os.geteuid() == 0 else 0o700)


def stored_password(path: Path) -> tuple[str, bool]:
    """The password kept in a file of mode 0600, made on first use.

    Returns it and whether it is new. It holds only letters, digits, `-` and `_`.
    """
    try:
        return path.read_text("ascii").strip(), False
    except FileNotFoundError:
        password = secrets.token_urlsafe(24)
    write_private(path, password + "\n")
    return password, True


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, whole or not at all."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)
    draft.replace(path)


def open_log(path: Path) -> int:
    """Open a log to append to, mode 0600. One that grew past 8 MB first becomes `<name>.1`."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_KEPT_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes; waits for it. The kernel frees it at death."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
