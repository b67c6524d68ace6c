"""``python -m station.embedded.drills.victim ORDERS``: Station's processes, for drills.

The only place that puts anything behind :func:`station.core.faults.point`. For each line of the
file ORDERS, which may still grow, it forks a process that becomes ``station WORD…``; if the line
names a point, it kills or stops itself when it comes to that. What takes a worker seconds to load
is loaded once.

A line is a JSON object: ``{"signal": "SIGKILL", "point": "after-send", "passage": 1,
"words": ["worker"], "config": "FILE"}``. It says ``forked PID`` and, at their ends, ``ended PID
STATUS`` in the file ORDERS.said.
"""

import gc
import itertools
import json
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from runs.llm.library import load
from station.core import faults

_POLL = 0.02


def main() -> NoReturn:
    orders = Path(sys.argv[1])
    gc.disable()  # it would look at half a million new objects again and again
    load()
    gc.enable()
    gc.freeze()  # the children need not look at all this again, nor copy it
    with orders.with_name(f"{orders.name}.said").open("a", buffering=1) as said:
        taken = 0
        while True:
            lines = orders.read_text().rpartition("\n")[0].splitlines()
            for line in lines[taken:]:
                pid = os.fork()
                if pid == 0:
                    become(json.loads(line))
                said.write(f"forked {pid}\n")
            taken = len(lines)
            while (ended := _ended()) is not None:
                said.write("ended {} {}\n".format(*ended))
            time.sleep(_POLL)


def become(order: dict[str, Any]) -> NoReturn:
    """Be the process of the order, with a trap at its point."""
    passages = itertools.count(1)
    number = signal.Signals[order["signal"]]

    def point(name: str) -> None:
        if name == order["point"] and next(passages) == order["passage"]:
            # This very thread gets it: it goes not one step further, as another's might.
            signal.pthread_kill(threading.get_ident(), number)

    faults.point = point
    os.environ["STN_CONFIG"] = order["config"]
    sys.argv = ["station", *order["words"]]
    runpy.run_module("station.cli.main", run_name="__main__", alter_sys=True)
    sys.exit(0)


def _ended() -> tuple[int, int] | None:
    """A child that has ended, and its exit status: negative is the signal that killed it."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, os.waitstatus_to_exitcode(status)) if pid else None


if __name__ == "__main__":
    main()
