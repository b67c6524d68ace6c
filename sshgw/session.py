"""One command of one person: from the words they sent to the exit status they get."""

import contextlib
import shlex
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import paramiko
import structlog
from django.db import connections
from paramiko.ssh_exception import SSHException

from sshgw import streams
from sshgw.door import Order
from sshgw.identity import Identities
from station.commands import Exit, Session
from station.core.ids import uuid7
from station.observe.context import REQUEST_ID, bind_principal, bound
from station.observe.metrics import ERRORS

RunCommand = Callable[[Sequence[str], Session], int]
NO_SHELL = """\
This is Station's SSH gateway. It runs operator commands, and has no shell yet:
  ssh -p {port} {user}@{host} run list --json
  ssh -p {port} {user}@{host} station --help
"""
_INTERRUPT = b"\x03"
_LONGEST_COMMAND = 64 * 1024
_PROGRAM = "station"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command that was ordered, and the means to stop it."""

    order: Order
    identities: Identities
    run_command: RunCommand
    interrupted: threading.Event = field(default_factory=threading.Event)

    def carry(self) -> None:
        """Run it to its end, report its exit status and close the channel. Never raises."""
        channel = self.order.channel
        try:
            with bound(**{REQUEST_ID: str(uuid7())}, address=self.order.proven.address):
                code = self._run()
        except Exception:  # noqa: BLE001 - a bug in one command must not end the gateway
            ERRORS.labels("ssh").inc()
            _log.exception("ssh_command_errored")
            code = Exit.FAILED
        finally:
            connections.close_all()
        end(channel, code)

    def cancelled(self) -> bool:
        """Whether the client has gone or wants the command to stop."""
        channel = self.order.channel
        if self.order.terminal is not None:
            # A terminal's client sends Ctrl-C as a character; nobody else reads its input.
            while channel.recv_ready():
                if _INTERRUPT in channel.recv(4096):
                    self.interrupted.set()
        return self.interrupted.is_set() or channel.closed

    def _run(self) -> int:
        order, channel = self.order, self.order.channel
        terminal = order.terminal
        principal = self.identities.principal(order.proven)
        if principal is None:
            say(order, "This key does not open Station any more.")
            return Exit.NOT_ALLOWED
        bind_principal(principal)
        if order.command is None:
            say(order, _no_shell(order))
            return Exit.FAILED
        argv = words(order.command)
        if isinstance(argv, str):
            say(order, argv)
            return Exit.USAGE
        named = " ".join(word for word in argv[:2] if word.isidentifier())  # the rest may be secret
        _log.info("ssh_command", command=named)
        stdout = streams.writer(channel, terminal=terminal is not None)
        stderr = streams.writer(channel, error=True, terminal=terminal is not None)
        session = Session(
            principal=principal,
            stdout=stdout,
            stderr=stderr,
            width=terminal.width if terminal else 80,
            color=terminal is not None and terminal.kind not in ("", "dumb"),
            interactive=terminal is not None,
            stdin=streams.reader(channel) if terminal is None else None,
            cancelled=self.cancelled,
            log="the SSH gateway's log",
        )
        code = self.run_command(argv, session)
        with contextlib.suppress(BrokenPipeError):
            stdout.flush()
            stderr.flush()
        return code


def words(command: str) -> list[str] | str:
    """The words of a command line, the program's own name left out; or what is wrong with it."""
    if len(command) > _LONGEST_COMMAND:
        return "That command is too long. Send long texts to standard input."
    try:
        argv = shlex.split(command)
    except ValueError as error:
        return f"That command cannot be read: {error}."
    return argv[1:] if argv[:1] == [_PROGRAM] else argv


def say(order: Order, text: str) -> None:
    """Tell the person at the other end, if there still is one."""
    with contextlib.suppress(BrokenPipeError):
        stderr = streams.writer(order.channel, error=True, terminal=order.terminal is not None)
        stderr.write(text.rstrip("\n") + "\n")


def end(channel: paramiko.Channel, code: int) -> None:
    """Report the exit status and close the channel, if it is still there."""
    with contextlib.suppress(OSError, EOFError, SSHException):
        channel.send_exit_status(code)
        channel.close()


def _no_shell(order: Order) -> str:
    host, port = order.reached_at
    return NO_SHELL.format(port=port, user=order.proven.username, host=host)
