"""Where the lines of supervised processes go."""

import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TextIO

OnOutput = Callable[[str, str], None]
"""Called with a child's name and one line, without its newline; one call at a time."""

LINE_LIMIT = 64 * 1024
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


def prefixed(names: Iterable[str], stream: TextIO | None = None) -> OnOutput:
    """Write `web      | line` to the stream (standard output by default).

    The names are coloured on a terminal, unless NO_COLOR is set (https://no-color.org).
    """
    out = stream or sys.stdout
    known = list(names)
    width = max((len(name) for name in known), default=0)
    coloured = out.isatty() and not os.environ.get("NO_COLOR")
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(known)}

    def write(name: str, line: str) -> None:
        label = f"{name:<{width}} |"
        if coloured:
            label = f"\033[{colours.get(name, 37)}m{label}\033[0m"
        out.write(f"{label} {line}\n")
        out.flush()

    return write


def pump(descriptor: int, name: str, on_output: OnOutput, lock: threading.Lock) -> None:
    """Hand the lines read from a pipe on until its end, then close it.

    A line longer than 64 KiB comes in pieces. A sink that raises loses the line, not the child:
    the pipe is drained whatever happens, else the child would block on it.
    """
    with open(descriptor, "rb") as pipe:
        while line := pipe.readline(LINE_LIMIT):
            text = line.rstrip(b"\r\n").decode(errors="replace")
            with lock:
                try:
                    on_output(name, text)
                except (OSError, ValueError):  # closed terminal, closed stream
                    continue
