"""Folders that are gone when their process is, by its own hand or by that of the next one."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from station.core.errors import StationError
from station.embedded.postgres import Postgres

_MARK = "in-use"


def new_folder(prefix: str) -> Path:
    """A new folder below the temporary one, marked as in use for as long as this process lives.

    Any user can pass through it: services of root's run as somebody else. Removing it is the
    caller's business; :func:`sweep` does it for callers that were killed.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o711)
    draft = folder / f"{_MARK}.draft"
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # freed by the kernel when the process is gone
    draft.rename(folder / _MARK)
    return folder


def sweep(prefix: str) -> None:
    """Remove the folders of that prefix whose process is gone, and their PostgreSQL's data."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError, StationError), (folder / _MARK).open("r+b") as mark:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Postgres(folder).remove()
            shutil.rmtree(folder, ignore_errors=True)
