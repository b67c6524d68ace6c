"""Real Station processes for tests that watch them live, stop and die.

Each runs on a leash: it dies with the test process, but nothing cleans up behind it, so that what
it leaves when it is killed can be seen.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import psutil
from django.db import connection

from runs.models import Worker
from station.embedded.ports import free_port
from tests import stack
from toolservers.processes import LEASH

T = TypeVar("T")
UP = 60.0
"""Seconds a process may take to start; a worker needs 3 when the machine is idle."""
GONE = 25.0
"""Seconds every process promises to be gone in after SIGTERM."""
_POLL = 0.02
_KNOWN = 4000


def until(holds: Callable[[], T], *, within: float = 60.0, what: str = "it") -> T:
    """Wait until ``holds()`` is true and return its value; fail after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not (value := holds()):
        assert time.monotonic() < deadline, f"{what} did not come true within {within:g} s"
        time.sleep(_POLL)
    return value


def alive(pid: int) -> bool:
    """The process exists and is no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Process:
    """One process of Station, signalled by its id."""

    def __init__(self, role: str, *, variables: Mapping[str, str], log: Path) -> None:
        self.role, self.log = role, log
        words = [sys.executable, sys.executable, "-m", "station.cli.main", *role.split()]
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", LEASH, "exec", str(os.getpid()), *words],
                env={**os.environ, **variables},
                cwd=Path(__file__).parents[1],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-_KNOWN:]

    @property
    def title(self) -> str:
        """What `ps` shows for it."""
        return " ".join(psutil.Process(self.pid).cmdline()).strip()

    @property
    def children(self) -> list[int]:
        """The ids of all processes below it."""
        return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self._popen.kill()
        self._popen.wait(timeout=10)

    def terminate(self) -> None:
        """SIGTERM; :meth:`wait` tells how it ended."""
        self._popen.send_signal(signal.SIGTERM)

    def wait(self, within: float = GONE) -> int:
        """Its exit code, within the time that is promised."""
        return self._popen.wait(timeout=within)

    def end(self) -> None:
        """Get rid of it, in whatever state it is."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._popen.kill()
        self._popen.wait(timeout=10)


class Crew:
    """Starts processes of one configuration; ``with`` ends those that are left."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        *,
        database_url: str | None = None,
        redis_url: str | None = None,
    ) -> None:
        """``config`` is the file's content. The addresses are this test session's by default."""
        self._folder, self._config = folder, config
        self._variables = {
            "STN_DATABASE_URL": database_url or test_database_url(),
            "STN_REDIS_URL": redis_url or stack.services.redis_url,
            "STN_DATA_DIR": str(folder),
            "STN_LOG_FORMAT": "json",
        }
        self.processes: list[Process] = []

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for process in self.processes:
            process.end()
        if kind is not None:
            for process in self.processes:
                sys.stderr.write(f"--- {process.role} {process.pid}\n{process.said}\n")

    def start(self, role: str, **sections: Mapping[str, Any]) -> Process:
        """A process of ``role``; ``sections`` of the configuration are changed for it alone."""
        number = len(self.processes)
        config = {**self._config}
        for name, section in sections.items():
            config[name] = {**config.get(name, {}), **section}
        file = self._folder / f"{number}.yaml"
        file.write_text(json.dumps(config))
        process = Process(
            role,
            variables={**self._variables, "STN_CONFIG": str(file)},
            log=self._folder / f"{number}-{role}.log",
        )
        self.processes.append(process)
        return process

    def worker(self, **sections: Mapping[str, Any]) -> Process:
        """A worker that has begun to report itself."""
        return self.workers(1, **sections)[0]

    def workers(self, count: int, **sections: Mapping[str, Any]) -> list[Process]:
        """Workers, started side by side."""
        started = [self.start("worker", **sections) for _ in range(count)]
        for process in started:
            until(lambda process=process: _listens(process), within=UP, what="the worker")  # type: ignore[misc]
        return started

    def web(self, **sections: Mapping[str, Any]) -> tuple[Process, str]:
        """A web process that answers, and its address."""
        port = free_port()
        api = {"host": "127.0.0.1", "port": port, **sections.pop("api", {})}
        process = self.start("web", api=api, **sections)
        url = f"http://127.0.0.1:{port}"
        until(lambda: _answers(process, url), within=UP, what="the web process")
        return process, url


def test_database_url() -> str:
    """The address of this session's test database."""
    name = connection.settings_dict["NAME"]
    return f"{stack.services.database_url.rpartition('/')[0]}/{name}"


test_database_url.__test__ = False  # type: ignore[attr-defined]


@contextlib.contextmanager
def crew(folder: Path, config: Mapping[str, Any], **addresses: str) -> Iterator[Crew]:
    """A :class:`Crew` for the block."""
    with Crew(folder, config, **addresses) as started:
        yield started


def _listens(process: Process) -> bool:
    assert process.running, process.said
    reported = Worker.objects.filter(pid=process.pid).exists()
    return reported and " ready." in process.log.read_text()


def _answers(process: Process, url: str) -> bool:
    import httpx

    assert process.running, process.said
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    return False
