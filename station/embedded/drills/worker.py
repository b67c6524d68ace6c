"""``python -m station.embedded.drills.worker --die-at POINT [--on N]``: a worker that kills itself.

The only place that puts anything behind :func:`station.core.faults.point`.
"""

import argparse
import itertools
import os
import runpy
import signal
import sys

from station.core import faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--die-at", required=True, choices=faults.POINTS)
    parser.add_argument("--on", type=int, default=1, help="at which passage, from 1")
    options = parser.parse_args()
    passages = itertools.count(1)

    def point(name: str) -> None:
        if name == options.die_at and next(passages) == options.on:
            os.kill(os.getpid(), signal.SIGKILL)

    faults.point = point
    sys.argv = ["station", "worker"]
    runpy.run_module("station.cli.main", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
