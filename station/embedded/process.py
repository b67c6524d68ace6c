"""Child processes that cannot outlive this one, whatever kills it.

Every process is started behind a guard (`station.embedded.guard`): when this process dies, also
by SIGKILL, the guard ends the child and every descendant of it.
"""

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from station.embedded.account import Account
from station.embedded.errors import SpawnFailed

GUARD = Path(__file__).with_name("guard.py")
SPAWN_TIMEOUT = 30.0


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run, and how it ends when we are gone."""

    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    """The whole environment; None passes this process's own on."""
    cwd: Path | None = None
    account: Account | None = None
    """Whom to become before exec; only root may."""
    stdin: bytes = b""
    """What the child reads from its standard input."""
    orphan_signal: signal.Signals = signal.SIGKILL
    """Sent to the child when this process dies; whatever is left after the grace is killed."""
    orphan_grace: float = 0.0
    """Seconds."""


class GuardedProcess:
    """A running child behind its guard. Any thread may use it.

    Races: signals go through the guard, which has not reaped the child yet or sends nothing, so
    a recycled process id is never hit.
    """

    def __init__(self, command: Command, *, output: int) -> None:
        """Start the child and wait for its exec.

        Args:
            command: what to run.
            output: file descriptor for its standard output and error; stays the caller's.

        Raises:
            SpawnFailed: there is no such program, or it may not be run.
        """
        self.argv = tuple(command.argv)
        self._ended = threading.Event()
        self._returncode: int | None = None
        self._link, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as stdin:
            stdin.write(command.stdin)
            stdin.seek(0)
            try:
                self._guard = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(GUARD), _order(command, theirs), *self.argv],
                    stdin=stdin,
                    stdout=output,
                    stderr=output,
                    env=None if command.env is None else dict(command.env),
                    cwd=command.cwd,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError as error:
                self._link.close()
                raise SpawnFailed(f"{self.argv[0]}: {error.strerror}: {error.filename}") from error
        self._heard = b""
        self.pid = self._await_exec()
        threading.Thread(target=self._follow, name=f"guard-{self.pid}", daemon=True).start()

    @property
    def returncode(self) -> int | None:
        """The child's exit status; negative is the signal that killed it; None: still running.

        Not None also means that no descendant is left.
        """
        return self._returncode

    @property
    def guard_pid(self) -> int:
        """The guard's process id; also the process group of the child."""
        return self._guard.pid

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait up to `timeout` seconds for the end; returns `returncode`."""
        self._ended.wait(timeout)
        return self._returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the child itself; nothing happens when it has ended."""
        self._say(f"signal {int(number)}")

    def kill(self) -> None:
        """SIGKILL for the child and all its descendants; does not wait."""
        self._say("kill")

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # the guard has ended, so has the child
            self._link.sendall(f"{line}\n".encode())

    def _await_exec(self) -> int:
        self._link.settimeout(SPAWN_TIMEOUT)
        try:
            verb, value = self._next_message()
        except TimeoutError:
            verb, value = "failed", errno.ETIMEDOUT
        self._link.settimeout(None)
        if verb == "pid":
            return value
        self._link.close()
        self._guard.wait()
        reason = os.strerror(value) if verb == "failed" else "its guard ended; see its output"
        raise SpawnFailed(f"{self.argv[0]}: {reason}.")

    def _follow(self) -> None:
        verb, status = self._next_message()
        if verb != "exit":
            # Somebody killed the guard. It is not reaped, so its process group is still its own.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._guard.pid, signal.SIGKILL)
            status = -signal.SIGKILL
        self._guard.wait()
        self._link.close()
        self._returncode = status
        self._ended.set()

    def _next_message(self) -> tuple[str, int]:
        while b"\n" not in self._heard:
            try:
                chunk = self._link.recv(4096)
            except ConnectionError:
                chunk = b""
            if not chunk:
                return "gone", 0
            self._heard += chunk
        line, _, self._heard = self._heard.partition(b"\n")
        verb, _, value = line.decode().partition(" ")
        return verb, int(value)


def _order(command: Command, link: socket.socket) -> str:
    account = command.account
    return json.dumps(
        {
            "parent": os.getpid(),
            "socket": link.fileno(),
            "uid": account.uid if account else None,
            "gid": account.gid if account else None,
            "orphan_signal": int(command.orphan_signal),
            "orphan_grace": command.orphan_grace,
        }
    )
