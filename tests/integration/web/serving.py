"""A real `station web` process for the tests."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from django.db import connection

from station.embedded.ports import free_port

_START = """
from station.config import current
from station.cli.web import run_web
raise SystemExit(run_web(current()))
"""


class Web:
    """The process: ``client`` talks to it, ``lines`` is its log so far."""

    def __init__(self, *, scheme: str = "http", **variables: str) -> None:
        self.port = free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.lines: list[str] = []
        environ = {**os.environ, **test_database(), **variables}
        environ |= {"STN_API_HOST": "127.0.0.1", "STN_API_PORT": str(self.port)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START], env=environ, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.client = httpx.Client(base_url=self.url, timeout=30, verify=False)  # noqa: S501 - its own certificate

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    @property
    def records(self) -> list[dict[str, Any]]:
        """The log lines, where the log is in JSON."""
        return [json.loads(line) for line in tuple(self.lines)]

    def answers(self) -> bool:
        """Whether /health answers."""
        assert self.process.poll() is None, "\n".join(self.lines)
        with contextlib.suppress(httpx.TransportError):
            return self.client.get("/health").status_code == 200
        return False

    def terminate(self) -> None:
        """SIGTERM to the master."""
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Stop it, hard if need be."""
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(10)
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextlib.contextmanager
def web(
    folder: Path, config: Mapping[str, Any] | None = None, *, scheme: str = "http", **options: str
) -> Iterator[Web]:
    """A web process that answers; its files are in ``folder``, its log is JSON."""
    file = folder / "config.yaml"
    file.write_text(json.dumps({"api": {"drain_delay": "0s"}, **(config or {})}))
    variables = {
        "STN_CONFIG": str(file),
        "STN_DATA_DIR": str(folder),
        "STN_LOG_FORMAT": "json",
        **options,
    }
    served = Web(scheme=scheme, **variables)
    try:
        until(served.answers, seconds=30)
        yield served
    finally:
        served.end()


def test_database() -> dict[str, str]:
    """The variable that points a process at this session's test database."""
    name = connection.settings_dict["NAME"]
    base = os.environ["STN_DATABASE_URL"].rpartition("/")[0]
    return {"STN_DATABASE_URL": f"{base}/{name}"}


test_database.__test__ = False  # type: ignore[attr-defined]


def until(holds: Callable[[], object], *, seconds: float) -> None:
    """Wait for ``holds()``; fail when it still does not after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.02)
