"""The guard: a small process between Station and a child that lets nothing outlive Station.

It is run as a script, by path, with `python -I -S` (12 ms, 7 MB) and imports only the standard
library; `station.embedded.process` is its only caller. Linux only.

    Station ──socket── guard ──fork, exec── child ── its own children, daemons, ...

Why a process and not only a parent-death signal: that signal is tied to the *thread* that forked,
reaches no grandchild, and is lost on exec of a set-uid program. The guard

* sees Station's death as end-of-file on the socket, whichever thread or signal it was;
* is a *subreaper*: whoever loses its parent below it becomes its child, so it finds every
  descendant, also those in sessions of their own, and kills them before it ends itself;
* has one thread, so the child's own parent-death signal (in case the guard itself is killed)
  means what it says.

Protocol, lines of ASCII. Station writes `signal N` (for the child) or `kill` (everything, now).
The guard writes `pid N` or `failed ERRNO` once, and `exit STATUS` last (negative: the signal).
End-of-file from Station sends the child `orphan_signal`, and after `orphan_grace` seconds
everything is killed.
"""

import contextlib
import ctypes
import errno
import json
import math
import os
import select
import signal
import socket
import sys
import time
from typing import NoReturn, TypedDict

# From <linux/prctl.h>.
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
PARENT_CHECK_SECONDS = 1.0


class Order(TypedDict):
    """What Station asks of one guard; the JSON of its first argument."""

    parent: int
    socket: int
    uid: int | None
    gid: int | None
    orphan_signal: int
    orphan_grace: float


def prctl(option: int, argument: int | bytes) -> None:
    """Call prctl(2), or raise OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    value = argument if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


class Guard:
    """One child, its descendants, and the link to Station."""

    def __init__(self, order: Order, argv: list[str]) -> None:
        self.order = order
        self.argv = argv
        self.link = socket.socket(fileno=order["socket"])
        self.link.set_inheritable(False)
        self.waker, alarm = os.pipe()
        os.set_blocking(self.waker, False)
        os.set_blocking(alarm, False)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, *FORWARDED):
            signal.signal(number, lambda *_: None)
        self.heard = b""
        self.pid = 0
        self.status: int | None = None
        self.orphaned = False
        self.kill_at = math.inf

    def run(self) -> None:
        """Start the child, guard it to its end, leave nothing."""
        self.pid = self._spawn()
        if self.pid == 0:
            return
        self._say(f"pid {self.pid}")
        while self.status is None:
            self._listen()
            self._reap()
        self._sweep()
        self._say(f"exit {self.status}")

    def _spawn(self) -> int:
        """Fork and exec; returns the child's pid, or 0 after reporting why exec failed."""
        outcome, confession = os.pipe()
        guard = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(outcome)
            self._become_the_child(guard, confession)
        os.close(confession)
        with open(outcome, "rb") as pipe:
            failure = pipe.read()  # exec closes the other end
        if not failure:
            return pid
        os.waitpid(pid, 0)
        self._say(f"failed {failure.decode()}")
        return 0

    def _become_the_child(self, guard: int, confession: int) -> NoReturn:
        try:
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these; exec keeps that
                signal.signal(number, signal.SIG_DFL)
            program = self._drop_privileges()
            prctl(PR_SET_PDEATHSIG, self.order["orphan_signal"])
            if os.getppid() != guard:
                os._exit(1)  # the guard died before the line above
            try:
                os.execvp(self.argv[0], self.argv)  # noqa: S606 - the command is the caller's
            except PermissionError:
                if program is None:
                    raise
                os.execve(program, self.argv, os.environ)  # noqa: S606
        except OSError as error:
            os.write(confession, str(error.errno or errno.EINVAL).encode())
        finally:
            os._exit(127)

    def _drop_privileges(self) -> int | None:
        """Become the wanted user. Returns the program, opened while it still could be.

        A checkout below /root cannot be entered by another user; the open file can be executed.
        """
        uid, gid = self.order["uid"], self.order["gid"]
        if uid is None or gid is None:
            return None
        program = os.open(self.argv[0], os.O_RDONLY | os.O_CLOEXEC)
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        return program

    def _listen(self) -> None:
        """Wait for news from Station, signals, or the end of the grace; act on them."""
        sources: list[socket.socket | int] = [self.waker]
        if not self.orphaned:
            sources.append(self.link)
        patience = min(PARENT_CHECK_SECONDS, self.kill_at - time.monotonic())
        ready, _, _ = select.select(sources, [], [], max(0.0, patience))
        if self.waker in ready:
            for number in os.read(self.waker, 512):
                if number != signal.SIGCHLD:
                    self._signal_child(number)
        if self.link in ready:
            self._obey()
        # A fork of Station that never called exec would keep the socket open: look, too.
        if not self.orphaned and os.getppid() != self.order["parent"]:
            self._orphaned()
        if time.monotonic() >= self.kill_at:
            self._signal_child(signal.SIGKILL)
            self.kill_at = math.inf

    def _obey(self) -> None:
        try:
            chunk = self.link.recv(4096)
        except OSError:
            chunk = b""
        if not chunk:
            self._orphaned()
            return
        *lines, self.heard = (self.heard + chunk).split(b"\n")
        for line in lines:
            verb, _, argument = line.partition(b" ")
            self._signal_child(int(argument) if verb == b"signal" else signal.SIGKILL)

    def _orphaned(self) -> None:
        self.orphaned = True
        self.kill_at = time.monotonic() + self.order["orphan_grace"]
        self._signal_child(self.order["orphan_signal"])

    def _signal_child(self, number: int) -> None:
        if self.status is None:  # not reaped yet: the number is still its own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)

    def _reap(self) -> bool:
        """Collect the dead. Returns whether any child, own or adopted, is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self.status = os.waitstatus_to_exitcode(status)

    def _sweep(self) -> None:
        """Kill whatever the child left behind, generation by generation."""
        while self._reap():
            reached = False
            for pid in children_of(os.getpid()):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
                    reached = True
            if not reached:  # set-uid programs of another user: not ours to end
                return
            select.select([self.waker], [], [], 0.05)
            with contextlib.suppress(BlockingIOError):
                os.read(self.waker, 512)

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # Station may be gone
            self.link.sendall(f"{line}\n".encode())


def children_of(parent: int) -> list[int]:
    """The children of a process, the dead but uncollected included: /proc/<pid>/stat, proc(5)."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as stat:
                fields = stat.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(name))
    return found


def main() -> None:
    """Guard `sys.argv[2:]` as the order in `sys.argv[1]` says."""
    order: Order = json.loads(sys.argv[1])
    prctl(PR_SET_NAME, b"station-guard")
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    Guard(order, sys.argv[2:]).run()


if __name__ == "__main__":
    main()
