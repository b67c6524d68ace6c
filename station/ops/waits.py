"""Whom a migration waits for, as the log and errors name them."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog
from django.db import Error, connection

_log = structlog.get_logger(__name__)
_EVERY = 30.0
# What a role may not see of other roles' sessions is left out.
_WHO = """
  SELECT concat('process ', a.pid, ' (', concat_ws(', ',
           coalesce(nullif(a.application_name, ''), nullif(a.backend_type, 'client backend'),
                    'unnamed'),
           round(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.backend_start)))
             || ' s'), ')')
    FROM pg_stat_activity a
"""
_OLDEST_TRANSACTION = f"""{_WHO}
   WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL
   ORDER BY a.xact_start LIMIT 1
"""
_BLOCKING = f"""{_WHO}
   WHERE a.pid = ANY (pg_blocking_pids(%s)) ORDER BY a.xact_start LIMIT 1
"""
_HOLDING = f"""{_WHO}
    JOIN pg_locks l ON l.pid = a.pid
   WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND a.datname = current_database()
     AND (l.classid::bigint << 32) | l.objid::bigint = hashtext(%s)
"""


def oldest_transaction() -> str:
    """Who has worked for longest: whoever keeps a table from a migration, most likely."""
    return _asked(_OLDEST_TRANSACTION) or "somebody"


def holder(lock: str) -> str:
    """Who holds the session's advisory lock ``hashtext(lock)``."""
    return _asked(_HOLDING, [lock]) or "somebody"


@contextmanager
def told(*, every: float = _EVERY) -> Iterator[None]:
    """The block; the log says every so many seconds whom this thread's connection waits for, if
    anybody.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (waiting,) = cursor.fetchone()
    over = threading.Event()
    telling = threading.Thread(
        target=_tell, args=(waiting, over, every), name="station-migrate-waits", daemon=True
    )
    telling.start()
    try:
        yield
    finally:
        over.set()
        telling.join()


def _tell(waiting: int, over: threading.Event, every: float) -> None:
    while not over.wait(every):
        try:
            if who := _asked(_BLOCKING, [waiting]):
                _log.warning("migration_waits", behind=who)
        except Error:  # a database that cannot be asked is the migration's to report
            continue
        finally:
            connection.close()


def _asked(question: str, parameters: Sequence[str | int] = ()) -> str:
    with connection.cursor() as cursor:
        cursor.execute(question, parameters)
        row = cursor.fetchone()
    return str(row[0]) if row else ""
