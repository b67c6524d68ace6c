"""One person's seat at the commands: who they are, and where their text comes from and goes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from station.commands.text import printable
from station.core.errors import InputTooLarge, InvalidInput
from station.core.principal import Principal

_LARGEST_FILE = 4 * 1024 * 1024


def _never() -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a command knows of its caller. Commands touch no other stream, file or terminal.

    ``width`` is in columns. ``interactive``: a person watches ``stdout``, so text may be laid out
    for the width. ``cancelled`` turns true when the caller has gone.
    """

    principal: Principal
    stdout: TextIO
    stderr: TextIO
    width: int = 80
    color: bool = False
    interactive: bool = False
    stdin: TextIO | None = None
    cancelled: Callable[[], bool] = _never
    host: bool = False
    """The caller sits at this machine's shell: files and processes are theirs to use."""
    ask_hidden: Callable[[str], str] | None = field(default=None, repr=False)
    """Asks a person for a text without showing it; ``None`` where that cannot be done."""
    log: str = "Station's log"
    """Where internal errors are written, in words."""

    def print(self, text: str = "") -> None:
        """One line (or several) to ``stdout``, without anything that could steer a terminal."""
        self.stdout.write(printable(text) + "\n")

    def note(self, text: str) -> None:
        """One line to ``stderr``: what is not part of the result."""
        self.stderr.write(printable(text) + "\n")

    def read_stdin(self, what: str) -> str:
        """All of ``stdin``, as UTF-8 text of 4 MiB at most. Raises :class:`InvalidInput`."""
        if self.stdin is None:
            raise InvalidInput(what, "there is no standard input to read it from")
        try:
            text = self.stdin.read(_LARGEST_FILE + 1)
        except UnicodeDecodeError:
            raise InvalidInput(what, "is not UTF-8 text") from None
        return _bounded(what, text)

    def read_file(self, what: str, path: str) -> str:
        """The text of a file on the caller's machine, ``-`` being ``stdin``.

        Raises:
            InvalidInput: it cannot be read, or the caller is not at this machine.
        """
        if path == "-":
            return self.read_stdin(what)
        if not self.host:
            raise InvalidInput(
                what,
                "files are read at the host's own shell only",
                fix="Give - and send the text to standard input.",
            )
        try:
            with Path(path).open(encoding="utf-8") as file:
                return _bounded(what, file.read(_LARGEST_FILE + 1))
        except UnicodeDecodeError:
            raise InvalidInput(what, f"{path} is not UTF-8 text") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise InvalidInput(what, f"{path} cannot be read: {reason}") from None

    def hidden_line(self, what: str, *, option: str, repeat: bool = False) -> str:
        """A secret that a person types, ``repeat``: twice.

        ``option`` is the one that takes it from standard input instead, for the error's fix.

        Raises:
            InvalidInput: nobody can be asked, or the two entries differ.
        """
        if self.ask_hidden is None:
            raise InvalidInput(
                what, "is needed and cannot be asked for here", fix=f"Send it with {option}."
            )
        value = self.ask_hidden(f"{what}: ")
        if repeat and self.ask_hidden(f"{what} again: ") != value:
            raise InvalidInput(what, "the two entries differ")
        return value


def _bounded(what: str, text: str) -> str:
    if len(text) > _LARGEST_FILE:
        raise InputTooLarge(what, f"is longer than {_LARGEST_FILE} characters")
    return text
