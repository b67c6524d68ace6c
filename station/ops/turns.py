"""One migrating process at a time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from django.db import InterfaceError, OperationalError, connection

from station.ops import waits

_log = structlog.get_logger(__name__)
_LOCK = "station migrate"
_PAUSE = 1.0
# A server notices only after hours that the machine of a process is gone, and amid a long statement
# not even that the process was killed: its session would hold the lock and go on.
_SESSION = {
    "application_name": "station migrate",
    "client_connection_check_interval": "2s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


@contextmanager
def alone() -> Iterator[None]:
    """The block, after every other process that is in one. Waits for as long as it takes.

    The lock is that of the session, which ends within seconds of its process.
    """
    with connection.cursor() as cursor:
        for name, value in _SESSION.items():
            cursor.execute("SELECT set_config(%s, %s, false)", [name, value])
    _take()
    try:
        yield
    finally:
        _give_back()


def _take() -> None:
    # One that waited in pg_advisory_lock would do so with a snapshot. The process ahead waits for
    # all snapshots when it makes an index beside others: both would wait for each other.
    told = False
    while not _taken():
        if not told:
            _log.warning("migration_waits_its_turn", behind=waits.holder(_LOCK))
            told = True
        time.sleep(_PAUSE)


def _taken() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtext(%s))", [_LOCK])
        return bool(cursor.fetchone()[0])


def _give_back() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(hashtext(%s))", [_LOCK])
            for name in (*_SESSION, "lock_timeout"):
                cursor.execute(f"RESET {name}")
    except (InterfaceError, OperationalError):
        return  # the session is gone, and the lock with it
