"""How the long-running processes are told to stop."""

import subprocess
import sys

DEAF = """
import os, signal, threading
from station.cli import processes
processes._LATEST_EXIT = 0.1
stop = processes._stop_event()
os.kill(os.getpid(), signal.SIGTERM)
assert stop.is_set()
threading.Event().wait()
"""


def test_a_process_that_waits_for_something_else_is_cut_short() -> None:
    ended = subprocess.run([sys.executable, "-c", DEAF], timeout=30, check=False)
    assert ended.returncode == 1
