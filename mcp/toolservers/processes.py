"""Stdio tool servers as operating-system processes: started on a leash, killed as a group."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from toolservers.definition import ServerDefinition
from toolservers.errors import StdioCommandNotAllowed, ToolServerUnavailable
from toolservers.stderr import StderrLines

logger = logging.getLogger(__name__)

LEASH = str(Path(__file__).with_name("leash.py"))
ALWAYS_PASSED = ("PATH", "HOME", "LANG")
EXIT_GRACE = 0.3
"""Seconds a server has to exit by itself once its standard input is closed."""
TERM_GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL."""
KILL_GRACE = 0.5
SETTLING = 0.2
POLL = 0.02


def resolve_command(definition: ServerDefinition, allowed: Sequence[str]) -> str:
    """The absolute path of the server's command.

    Raises:
        StdioCommandNotAllowed: ``command`` is not literally on the operator's list.
        ToolServerUnavailable: it is, but this machine has no such executable (permanent).
    """
    command = definition.command
    if command not in allowed or (os.sep in command and not os.path.isabs(command)):
        raise StdioCommandNotAllowed(
            f"Tool server {definition.name}: the command {command!r} is not allowed.",
            fix="Ask the operator to add it to mcp.stdio_commands, by name or absolute path.",
        )
    # The worker's own PATH, not the definition's: a definition cannot redefine an allowed name.
    path = shutil.which(command)
    if path is None:
        raise ToolServerUnavailable(
            f"Tool server {definition.name}: this worker has no executable {command!r}.",
            fix="Install it on the worker's host, or correct mcp.stdio_commands.",
            permanent=True,
        )
    return os.path.abspath(path)


def child_environment(own: Mapping[str, str], passed: Sequence[str]) -> dict[str, str]:
    """PATH, HOME, LANG and the ``passed`` names of this process, then the server's ``own``."""
    kept = {name: os.environ[name] for name in (*ALWAYS_PASSED, *passed) if name in os.environ}
    return kept | dict(own)


class Guard:
    """The process that kills servers' groups if this process is killed (see ``leash.py``)."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: set[int] = set()

    def add(self, group: int) -> None:
        self._groups.add(group)
        self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    async def close(self) -> None:
        """Dismiss the guard; groups still registered are killed by it."""
        process, self._process = self._process, None
        if process is None:
            return
        cast("IO[bytes]", process.stdin).close()
        for _ in range(100):
            if process.poll() is not None:
                return
            await asyncio.sleep(POLL)
        process.kill()
        process.wait()

    def _tell(self, line: str) -> None:
        if self._process is not None:
            try:
                os.write(cast("IO[bytes]", self._process.stdin).fileno(), line.encode())
            except OSError:
                # Somebody killed the guard: start another, which must hear of every group.
                with contextlib.suppress(OSError):
                    cast("IO[bytes]", self._process.stdin).close()
                self._process.wait()
                self._process = None
            else:
                return
        if not self._groups:
            return
        try:
            self._start()
        except OSError:
            # Without it the kernel still kills the servers themselves, just not their children.
            logger.exception("the guard of stdio tool servers cannot be started")

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", LEASH, "guard"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={},
            cwd="/",
            # In its own session, so that a signal to the worker's group spares it.
            start_new_session=True,
        )
        known = "".join(f"+{group}\n" for group in self._groups)
        os.write(cast("IO[bytes]", self._process.stdin).fileno(), known.encode())


class ServerProcess(asyncio.SubprocessProtocol):
    """A running stdio server: its pipes, and its end."""

    def __init__(self, *, frame_limit: int, stderr: StderrLines, guard: Guard) -> None:
        self.stdout = asyncio.StreamReader(limit=frame_limit, loop=asyncio.get_running_loop())
        self.exited = asyncio.Event()
        self._frame_limit = frame_limit
        self._stderr = stderr
        self._guard = guard
        self._transport: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        path: str,
        environment: Mapping[str, str],
        *,
        frame_limit: int,
        stderr: StderrLines,
        guard: Guard,
    ) -> "ServerProcess":
        """Start ``path`` with ``argv`` in a session (and process group) of its own.

        Raises:
            OSError, ValueError: it cannot be started (no memory, a NUL byte in an argument).
        """
        loop = asyncio.get_running_loop()
        leashed = [sys.executable, "-I", "-S", LEASH, "exec", str(os.getpid()), path, *argv]
        transport, process = await loop.subprocess_exec(
            lambda: cls(frame_limit=frame_limit, stderr=stderr, guard=guard),
            *leashed,
            env=dict(environment),
            cwd="/",
            start_new_session=True,
        )
        process._transport = transport
        guard.add(transport.get_pid())
        return process

    @property
    def pid(self) -> int:
        """The server's pid, which is also its process group's id."""
        assert self._transport is not None
        return self._transport.get_pid()

    @property
    def exit_code(self) -> int | None:
        """The exit status, negative for a signal, ``None`` while it runs."""
        return None if self._transport is None else self._transport.get_returncode()

    def write(self, line: bytes) -> bool:
        """Queue one line for the server; False when it reads too slowly or no longer."""
        if self._stdin is None or self._stdin.is_closing():
            return False
        self._stdin.write(line)
        return self._stdin.get_write_buffer_size() <= self._frame_limit

    async def stop(self, *, gently: bool) -> None:
        """End the whole process group; returns in about 2 s even if nothing obeys.

        ``gently``: give the server a moment to exit by itself when its standard input closes.
        """
        assert self._transport is not None
        if self._stdin is not None:
            self._stdin.abort() if not gently else self._stdin.close()
        if gently:
            await self._gone_within(EXIT_GRACE)
        if self._signal(signal.SIGTERM) and not await self._gone_within(TERM_GRACE):
            self._signal(signal.SIGKILL)
            await self._gone_within(KILL_GRACE)
        # The transport learns of the death a moment after the kernel does; closing it before would
        # compete with asyncio for the exit status.
        await self.settled()
        self._guard.remove(self.pid)
        self._transport.close()
        self._stderr.end()
        # Errors of the session, which refer to this, may stay in memory until the next full garbage
        # collection. An answer that was never finished, of many MiB, need not stay with them.
        self.stdout.feed_eof()
        self.stdout = asyncio.StreamReader()
        self.stdout.feed_eof()

    async def settled(self) -> None:
        """Wait a moment for the exit status of a process that closed its output."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.exited.wait(), SETTLING)

    async def _gone_within(self, seconds: float) -> bool:
        deadline = asyncio.get_running_loop().time() + seconds
        while self._signal(0):
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(POLL)
        return True

    def _signal(self, number: int) -> bool:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            # Only processes of another user are left in it (a setuid child): beyond our reach.
            return False
        return True

    # asyncio.SubprocessProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self._stdin = cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0))
        stdout = self._transport.get_pipe_transport(1)
        assert stdout is not None
        # Lets the reader stop reading the pipe while a consumer is behind.
        self.stdout.set_transport(stdout)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self.stdout.feed_data(data)
        else:
            self._stderr.feed(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 1:
            self.stdout.feed_eof()

    def process_exited(self) -> None:
        self.exited.set()
