"""The stage of a measurement: services, processes and what they use."""

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import redis
import yaml

from station.embedded.postgres import Postgres
from station.embedded.process import Command, GuardedProcess
from station.embedded.valkey import Valkey

PATIENCE = 120.0


class Stage:
    """A PostgreSQL, a Valkey and Station processes for one measurement, gone afterwards."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="station-bench-", dir="/var/tmp"))
        self.folder.chmod(0o711)
        self.postgres = Postgres(self.folder, settings={"max_connections": "200"})
        self.valkey = Valkey(self.folder)
        self._processes: list[GuardedProcess] = []
        self._key = secrets.token_hex(32)

    def __enter__(self) -> "Stage":
        with contextlib.ExitStack() as undo:
            undo.callback(self._end)
            self.postgres.start()
            self.valkey.start()
            os.environ.update(self.environment(execution_queue={"buffer_size": 1_000_000}))
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        """Leave nothing behind, also where a part of it does not come off."""
        with contextlib.ExitStack() as steps:  # the last one comes first
            steps.callback(shutil.rmtree, self.folder, ignore_errors=True)
            steps.callback(self.postgres.remove)
            steps.callback(self.valkey.stop)
            for process in self._processes:
                steps.callback(process.kill)

    def environment(self, **config: Mapping[str, Any]) -> dict[str, str]:
        """The variables of a Station process; ``config`` are sections of its configuration."""
        path = self.folder / f"config-{secrets.token_hex(4)}.yaml"
        path.write_text(yaml.safe_dump({"log": {"level": "warn"}, **config}))
        return {
            "STN_DATABASE_URL": self.postgres.url,
            "STN_REDIS_URL": self.valkey.url,
            "STN_ENCRYPTION_KEY": self._key,
            "STN_DATA_DIR": str(self.folder / "station"),
            "STN_CONFIG": str(path),
            "DJANGO_SETTINGS_MODULE": "station.settings",
        }

    def start(self, *argv: str, env: Mapping[str, str] | None = None) -> GuardedProcess:
        """Start ``python …`` as a child that cannot outlive this process."""
        log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        command = Command(
            argv=[sys.executable, *argv], env={**os.environ, **(env or {})}, cwd=Path.cwd()
        )
        try:
            process = GuardedProcess(command, output=log)
        finally:
            os.close(log)
        self._processes.append(process)
        return process

    def queued(self, name: str) -> int:
        """Messages in a queue of the broker that no worker has taken."""
        with redis.Redis.from_url(self.valkey.url) as client:
            return int(client.llen(name))

    def stop(self, process: GuardedProcess) -> None:
        """End one process now."""
        process.kill()
        self._processes.remove(process)


def until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait for ``condition``; raise ``TimeoutError`` naming ``what`` otherwise."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience:.0f} s for {what}")
        time.sleep(0.02)


def tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process tree, its ended children included."""
    total = 0.0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def pss_megabytes(pid: int) -> float:
    """Proportional memory of a process tree, in MB (10^6 bytes)."""
    total = 0
    for process in tree(pid):
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total / 1e6


@contextlib.contextmanager
def peak_memory(pid: int) -> Iterator[list[float]]:
    """Samples a tree's memory every 0.5 s; the list holds the samples afterwards."""
    samples = [pss_megabytes(pid)]
    over = threading.Event()

    def sample() -> None:
        while not over.wait(0.5):
            with contextlib.suppress(psutil.Error):
                samples.append(pss_megabytes(pid))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def percentile(values: list[float], part: float) -> float:
    """The value below which ``part`` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def paced(send: Callable[[], object], rate: float, seconds: float) -> None:
    """Call ``send`` at ``rate`` a second, on time whatever each call takes."""
    begun = time.monotonic()
    sent = 0
    while (now := time.monotonic()) - begun < seconds:
        if sent < (now - begun) * rate:
            send()
            sent += 1
        else:
            threading.Event().wait(0.001)
