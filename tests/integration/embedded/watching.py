"""Waiting for things, and counting the living."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil


def eventually(condition: Callable[[], bool], *, seconds: float = 20.0) -> bool:
    """Whether the condition becomes true within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def family(pid: int) -> list[psutil.Process]:
    """A process and all its descendants, as they are now."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; one that is dead but not yet collected does not."""
    return [process for process in processes if _lives(process)]


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def written(path: Path) -> str:
    """The text of a file that a process writes; waits until it ends with a newline."""
    assert eventually(lambda: path.exists() and path.read_text().endswith("\n")), f"no {path}"
    return path.read_text()
