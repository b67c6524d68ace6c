"""Session pools and hostile servers as real processes."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from toolservers.definition import ServerDefinition
from toolservers.pool import SessionPool

DEADLINE = 15.0
HOSTILE = ("-m", "toolservers.testing")


async def eventually(condition: Callable[[], bool], *, within: float = DEADLINE) -> None:
    """Wait until ``condition`` holds; fail the test if it never does."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """The process exists and is no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@dataclass
class Sink:
    """The file in which a hostile server's effects are counted."""

    path: Path

    @property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    async def line(self, start: str) -> str:
        """The rest of the first line that begins with ``start``, once it is there."""
        await eventually(lambda: any(line.startswith(start) for line in self.lines))
        return next(line for line in self.lines if line.startswith(start))[len(start) :]


@pytest.fixture
def sink(tmp_path: Path) -> Sink:
    return Sink(tmp_path / "sink")


@pytest.fixture
def stdio(sink: Sink) -> Callable[..., ServerDefinition]:
    """Make definitions of stdio hostile servers; more command-line ``options`` are appended."""

    def make(*options: str, **fields: Any) -> ServerDefinition:
        return ServerDefinition(
            **{
                "server_id": 1,
                "environment_id": 1,
                "name": "hostile",
                "transport": "stdio",
                "command": sys.executable,
                "args": (*HOSTILE, "--sink", str(sink.path), *options),
                "request_timeout": 10.0,
                **fields,
            }
        )

    return make


@pytest.fixture
def said() -> list[tuple[str, str]]:
    """What stdio servers wrote to standard error: (server, line)."""
    return []


@pytest.fixture
async def make_pool(said: list[tuple[str, str]]) -> AsyncIterator[Callable[..., SessionPool]]:
    """Make pools that are closed at the end of the test."""
    pools: list[SessionPool] = []

    def make(**settings: Any) -> SessionPool:
        pool = SessionPool(
            **{
                "size": 4,
                "max_retries": 2,
                "output_limit": 100_000,
                "allowed_commands": [sys.executable],
                "on_stderr": lambda definition, line: said.append((definition.name, line)),
                **settings,
            }
        )
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        await pool.close()


@pytest.fixture
def pool(make_pool: Callable[..., SessionPool]) -> SessionPool:
    return make_pool()


@dataclass
class HttpServer:
    """A hostile server over HTTP; ``kind`` is ``http`` or ``sse``."""

    kind: str
    sink: Sink
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, on the port it had before if it had one."""
        self.process = subprocess.Popen(
            [
                sys.executable,
                *HOSTILE,
                *("--sink", str(self.sink.path)),
                *(f"--{self.kind}", str(self.port)),
            ],
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().split()[-1])

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None

    def definition(self, **fields: Any) -> ServerDefinition:
        path = "mcp" if self.kind == "http" else "sse"
        return ServerDefinition(
            **{
                "server_id": 1,
                "environment_id": 1,
                "name": "hostile",
                "transport": self.kind,
                "url": f"http://127.0.0.1:{self.port}/{path}",
                "request_timeout": 10.0,
                **fields,
            }
        )


@contextlib.contextmanager
def running(kind: str, sink: Sink) -> Iterator[HttpServer]:
    server = HttpServer(kind, sink)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def http(sink: Sink) -> Iterator[HttpServer]:
    with running("http", sink) as server:
        yield server


@pytest.fixture
def sse(sink: Sink) -> Iterator[HttpServer]:
    with running("sse", sink) as server:
        yield server


async def whoami(pool: SessionPool, definition: ServerDefinition) -> dict[str, Any]:
    """What the hostile server's ``whoami`` tells."""
    result = await pool.call(definition, "whoami", {}, timeout=10, repeatable=True)
    told: dict[str, Any] = json.loads(result.text)
    return told


def process_group(pid: int) -> list[int]:
    """The living processes of the group ``pid`` leads."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == pid and alive(process.pid):
                found.append(process.pid)
    return found
