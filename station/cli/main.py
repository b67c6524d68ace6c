"""``station``: every command an operator types at the host."""

import getpass
import os
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

from station.cli.root import root
from station.commands.exits import Exit
from station.commands.running import run
from station.commands.session import Session
from station.core.principal import system


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; see :class:`station.commands.Exit`.

    Args:
        argv: the words after ``station``; those of this process when left out.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal's encoding must not end a command
            stream.reconfigure(errors="backslashreplace")
    code = run(root(), words, host_session())
    if code == Exit.PIPE_CLOSED:
        _forget_output()
    return code


def host_session() -> Session:
    """The session of whoever sits at this machine's shell, who may do everything."""
    return Session(
        principal=system(f"cli:{_unix_user()}"),
        stdin=sys.stdin,
        stdout=sys.stdout,
        stderr=sys.stderr,
        width=shutil.get_terminal_size().columns,
        color=_wants_color(sys.stdout),
        interactive=sys.stdout.isatty(),
        host=True,
        ask_hidden=getpass.getpass if sys.stdin is not None and sys.stdin.isatty() else None,
    )


def _unix_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.geteuid())


def _wants_color(stream: TextIO) -> bool:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty() or bool(os.environ.get("FORCE_COLOR"))


def _forget_output() -> None:
    """Nobody reads any more; keep Python from complaining when it flushes at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            os.dup2(nowhere, stream.fileno())
        except (OSError, ValueError):
            continue


if __name__ == "__main__":
    sys.exit(main())
