"""Who an embedded service runs as. PostgreSQL refuses to run as root, and rightly so."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from station.embedded.errors import ServiceFailed

UNPRIVILEGED = "nobody"


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user and group, by number."""

    uid: int
    gid: int


def unprivileged() -> Account | None:
    """The account to drop to when this process is root; None: stay who we are."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError as error:
        raise ServiceFailed(
            f"This machine has no user {UNPRIVILEGED!r} to run PostgreSQL as.",
            fix="Run Station as an ordinary user.",
        ) from error
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


def can_enter(account: Account | None, folder: Path) -> bool:
    """Whether the account can reach the folder: every parent included, access lists too."""
    return succeeds_as(account, ["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)])


def succeeds_as(account: Account | None, argv: list[str]) -> bool:
    """Whether a short command (under 30 s) runs and exits 0 as the account."""
    try:
        done = subprocess.run(
            argv,
            cwd="/",
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=30,
            check=False,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except PermissionError:
        return False
    return done.returncode == 0
