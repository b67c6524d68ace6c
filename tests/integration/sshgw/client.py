"""The real OpenSSH client, as a person would use it, and a gateway to use it on."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sshgw.hostkey import host_key
from sshgw.identity import Identities
from sshgw.server import Gateway, listen
from sshgw.session import RunCommand
from station.commands import Session
from station.config import current

DEADLINE = 20.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key pair in a folder."""

    path: Path

    @property
    def public(self) -> str:
        return self.path.with_suffix(".pub").read_text()


def make_key(folder: Path, name: str = "id", kind: str = "ed25519", *options: str) -> Key:
    path = folder / name
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, *options, "-N", "", "-C", f"{name}@test", "-f", str(path)],
        check=True,
    )
    return Key(path=path)


@dataclass(frozen=True, kw_only=True)
class Ssh:
    """An OpenSSH client that trusts nothing of this machine's configuration."""

    port: int
    key: Key
    user: str

    def __call__(
        self,
        *words: str,
        options: Sequence[str] = (),
        user: str | None = None,
        key: Key | None = None,
        stdin: str | None = None,
    ) -> Answer:
        """Run one command to its end."""
        done = subprocess.run(
            self.argv(*words, options=options, user=user, key=key),
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        return Answer(code=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def start(
        self, *words: str, options: Sequence[str] = (), **more: Any
    ) -> "subprocess.Popen[str]":
        """Start one command; the caller sees to its end."""
        return subprocess.Popen(
            self.argv(*words, options=options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    def argv(
        self,
        *words: str,
        options: Sequence[str] = (),
        user: str | None = None,
        key: Key | None = None,
        program: str = "ssh",
    ) -> list[str]:
        port = "-P" if program == "sftp" else "-p"
        settings = [
            "BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes", "IdentityAgent=none", "LogLevel=ERROR", "ConnectTimeout=10",
        ]  # fmt: skip
        return [
            program, "-F", "none", port, str(self.port), "-i", str((key or self.key).path),
            *options, *(f"-o{setting}" for setting in settings),
            f"{user or self.user}@127.0.0.1", *words,
        ]  # fmt: skip


@contextmanager
def running(
    run_command: RunCommand, *, authorized_keys: Path | None = None, **limits: Any
) -> Iterator[Gateway]:
    """A gateway on a free port, in a thread of this process."""
    gateway = Gateway(
        listen("127.0.0.1", 0),
        host_key(current()),
        Identities(authorized_keys),
        run_command,
        **limits,
    )
    stop = threading.Event()
    thread = threading.Thread(target=gateway.serve, args=(stop,))
    thread.start()
    try:
        yield gateway
    finally:
        stop.set()
        thread.join(DEADLINE)
        assert not thread.is_alive()


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for ``condition``; a failure says ``what`` did not happen."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE} s"
        time.sleep(0.02)


class Commands:
    """Commands that tests need and operators do not."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.waiting = threading.Semaphore(0)
        self.cancelled = threading.Event()
        self.together = threading.Barrier(5, timeout=DEADLINE)

    def __call__(self, argv: Sequence[str], session: Session) -> int:
        self.sessions.append(session)
        name, *rest = argv or ["help"]
        run: Callable[[Session, list[str]], int] = getattr(self, f"do_{name}")
        return run(session, rest)

    def do_whoami(self, session: Session, _words: list[str]) -> int:
        principal = session.principal
        session.print(f"{principal.kind} {principal.label} {principal.platform_admin}")
        return 0

    def do_help(self, session: Session, _words: list[str]) -> int:
        session.print("help")
        return 2

    def do_echo(self, session: Session, words: list[str]) -> int:
        session.print("|".join(words))
        session.note("aside")
        return 0

    def do_exit(self, _session: Session, words: list[str]) -> int:
        return int(words[0])

    def do_much(self, session: Session, words: list[str]) -> int:
        for number in range(int(words[0]) // 64):
            session.stdout.write(f"{number:063}\n")
        return 0

    def do_read(self, session: Session, _words: list[str]) -> int:
        session.print(f"got {session.read_stdin('text')!r}")
        return 0

    def do_meet(self, session: Session, _words: list[str]) -> int:
        session.print(str(self.together.wait() >= 0))
        return 0

    def do_bug(self, _session: Session, _words: list[str]) -> int:
        raise RuntimeError("a bug")

    def do_follow(self, session: Session, _words: list[str]) -> int:
        session.print("following")
        session.stdout.flush()
        self.waiting.release()
        until(session.cancelled, "the cancellation")
        self.cancelled.set()
        return 130

    def do_width(self, session: Session, _words: list[str]) -> int:
        session.print(f"{session.width} {session.interactive} {session.color} {session.stdin}")
        return 0


def interrupt(process: "subprocess.Popen[str]") -> None:
    """What Ctrl-C does to a client without a terminal."""
    os.kill(process.pid, signal.SIGINT)
