"""Metrics of all processes of a host in one place: a folder of memory-mapped files.

prometheus_client keeps a process's numbers in files named by its process id when the variable
``PROMETHEUS_MULTIPROC_DIR`` is set *before it is imported*. Nobody there tidies up: here the
counters of processes that ended are added up in the file of process 0, which never runs, so that
sums neither fall nor need a file for every process there ever was.
"""

import contextlib
import fcntl
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_GONE = 0


def folder() -> Path | None:
    """Where this host's processes keep their numbers; ``None`` when each keeps its own."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


@contextlib.contextmanager
def reading(place: Path) -> Iterator[None]:
    """Hold off :func:`bury` while the files are read: it would show numbers twice or not at all."""
    with _locked(place, fcntl.LOCK_SH):
        yield


def bury(place: Path) -> None:
    """Fold the files of ended processes into one per kind; drop their gauges."""
    if not any(not _alive(pid) for _, pid in _files(place).values()):
        return
    with _locked(place, fcntl.LOCK_EX):
        sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        dead = {path: kind for path, (kind, pid) in _files(place).items() if not _alive(pid)}
        for path, kind in dead.items():
            if not kind.startswith("gauge"):
                for key, value in _values(path):
                    sums[kind][key] += value
        for kind, values in sums.items():
            _add(place / f"{kind}_{_GONE}.db", values)
        for path in dead:
            path.unlink()


def _values(path: Path) -> Iterator[tuple[str, float]]:
    for key, value, *_ in MmapedDict.read_all_values_from_file(str(path)):  # type: ignore[no-untyped-call]
        yield key, value


def _add(path: Path, values: Mapping[str, float]) -> None:
    grave: Any = MmapedDict(str(path))  # type: ignore[no-untyped-call]
    for key, value in values.items():
        grave.write_value(key, grave.read_value(key)[0] + value, 0.0)
    grave.close()


def _files(place: Path) -> dict[Path, tuple[str, int]]:
    found = {}
    for path in place.glob("*_*.db"):
        kind, _, pid = path.stem.rpartition("_")
        if pid.isdecimal():
            found[path] = (kind, int(pid))
    return found


def _alive(pid: int) -> bool:
    if pid == _GONE:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _locked(place: Path, how: int) -> Iterator[None]:
    descriptor = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
