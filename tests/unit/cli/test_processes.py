"""How the long-running processes are told to stop."""

import subprocess
import sys

DEAF = """
import os, signal, threading
from station.cli import processes
from station.core import stopping
processes.exit_at_the_latest = lambda: stopping.exit_at_the_latest(0.1)
stop = processes._stop_event()
os.kill(os.getpid(), signal.SIGTERM)
assert stop.is_set()
print("told", flush=True)
threading.Event().wait()
"""


def test_a_process_that_waits_for_something_else_is_cut_short() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", DEAF], timeout=30, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout.startswith("told\n"), ended.stderr
    assert "stopped_by_force" in ended.stdout + ended.stderr
