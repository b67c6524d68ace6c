"""Keeps stdio tool servers from outliving the worker that started them.

Run by path as a script, with nothing but the standard library, so that it starts in 10 ms:

``leash.py exec PARENT_PID PATH ARGV0 [ARG...]``
    becomes the server, after asking the kernel to kill it when the worker dies.
``leash.py guard``
    reads ``+PGID`` and ``-PGID`` lines; when its standard input ends although groups are left, the
    worker was killed, and it kills those groups: the servers' own children die too, which the
    parent-death signal alone does not reach.
"""

import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 1.0


def become(parent: int, path: str, argv: list[str]) -> None:
    """Replace this process by ``path``; the kernel will SIGKILL it when ``parent`` dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # The worker died before the kernel was asked.
        os._exit(0)
    # Python ignores SIGPIPE, and an ignored signal stays ignored across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execv(path, argv)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"{path}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(127)


def guard() -> None:
    """Kill the process groups that are still registered when standard input ends."""
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    signal_all(groups, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while groups and time.monotonic() < deadline:
        time.sleep(0.02)
        signal_all(groups, 0)
    signal_all(groups, signal.SIGKILL)


def signal_all(groups: set[int], number: int) -> None:
    """Signal each group; those that no longer exist are taken out of the set."""
    for group in list(groups):
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            groups.discard(group)
        except PermissionError:
            pass


if __name__ == "__main__":
    if sys.argv[1] == "guard":
        guard()
    else:
        become(int(sys.argv[2]), sys.argv[3], sys.argv[4:])
