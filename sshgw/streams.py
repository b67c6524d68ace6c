"""A channel as text streams. What is written after the client has gone is dropped."""

import io
from typing import TextIO

import paramiko
from paramiko.ssh_exception import SSHException

_PIECE = 32 * 1024
_BUFFER = 64 * 1024


class _Reader(io.RawIOBase):
    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "io.WriteableBuffer") -> int:  # type: ignore[name-defined]
        view = memoryview(buffer)
        piece = self._channel.recv(len(view))
        view[: len(piece)] = piece
        return len(piece)


class _Writer(io.RawIOBase):
    def __init__(self, channel: paramiko.Channel, *, error: bool) -> None:
        self._send = channel.send_stderr if error else channel.send
        self._broken = False

    def writable(self) -> bool:
        return True

    def write(self, data: "io.ReadableBuffer") -> int:  # type: ignore[name-defined]
        view = memoryview(data)
        if self._broken:  # it was said once; closing the stream must not say it again
            return len(view)
        try:
            sent = self._send(view[:_PIECE].tobytes())
        except (OSError, EOFError, SSHException):
            sent = 0
        if sent == 0:
            self._broken = True
            raise BrokenPipeError
        return sent


def reader(channel: paramiko.Channel) -> TextIO:
    """What the client sends, as UTF-8 text; ends when the client closes its side or leaves."""
    return io.TextIOWrapper(io.BufferedReader(_Reader(channel)), encoding="utf-8")


def writer(channel: paramiko.Channel, *, error: bool = False, terminal: bool = False) -> TextIO:
    """Text for the client; raises ``BrokenPipeError`` once it has gone.

    As with a local program, a terminal and the error stream get each line at once, a pipe gets
    blocks (``flush`` sends sooner). A terminal's lines end in CR LF: the client's is in raw mode.
    """
    return io.TextIOWrapper(
        io.BufferedWriter(_Writer(channel, error=error), _BUFFER),
        encoding="utf-8",
        errors="replace",
        newline="\r\n" if terminal else "\n",
        line_buffering=terminal or error,
    )
