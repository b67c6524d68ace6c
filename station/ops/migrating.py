"""Migrations beside processes that work: nobody waits behind them.

A change of a table waits for whoever reads it, a dump or a report of an hour, and everybody else
waits behind the change: heartbeats, too, so that all runs would be lost. So a change waits for two
seconds only, makes way, and comes again.

An index that is made beside everybody else holds nobody up. It waits without a bound for whoever
worked before it, and the log says for whom.
"""

import time
from collections.abc import Callable

import structlog
from django.core.management import call_command
from django.core.management.commands import migrate
from django.db import OperationalError, connection
from django.db.migrations import Migration
from psycopg.errors import DeadlockDetected, LockNotAvailable

from station.core.errors import Unavailable
from station.ops import waits
from station.ops.turns import alone

_log = structlog.get_logger(__name__)
_WAIT = "2s"
_TRIES = 120
"""Ten minutes of waiting, with the pauses; what is migrated in between does not count."""
_PAUSE = 3.0
_PASSING = (LockNotAvailable, DeadlockDetected)


class TablesInUse(Unavailable):
    """A migration could not get hold of its tables."""

    code = "tables_in_use"


class _Command(migrate.Command):
    """Django's, with a bound on waiting for each migration."""

    def migration_progress_callback(
        self, action: str, migration: Migration | None = None, fake: bool = False
    ) -> None:
        if action == "apply_start" and migration is not None:
            bound_waiting(migration)
        super().migration_progress_callback(action, migration, fake)


def run() -> None:
    """Bring the database up to this version. A second process waits until the first is done.

    It can be interrupted at any point and run again: each migration is a transaction, or made of
    operations that can be repeated.

    Raises:
        TablesInUse: somebody kept a table for ten minutes; what was migrated so far stays.
    """
    with alone(), waits.told():
        patiently(lambda: call_command(_Command()))


def bound_waiting(migration: Migration) -> None:
    """Have the statements of ``migration`` wait for locks for two seconds only.

    One outside a transaction makes indexes beside everybody else: it holds nobody up, and if
    it made way it would begin again with the whole index.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [_bound(migration)])


def _bound(migration: Migration) -> str:
    return _WAIT if migration.atomic else "0"


def patiently(work: Callable[[], object], *, tries: int = _TRIES, pause: float = _PAUSE) -> None:
    """``work()``, again and again while somebody keeps it from a table, or it and others waited for
    each other.

    Raises:
        TablesInUse: at the last of so many ``tries``.
    """
    for left in reversed(range(tries)):
        try:
            work()
        except OperationalError as error:
            if not isinstance(error.__cause__, _PASSING):
                raise
            who = waits.oldest_transaction()
            if not left:
                raise TablesInUse(
                    f"A migration tried {tries} times to get a table that {who} uses.",
                    fix="End that transaction (SELECT pg_terminate_backend(…)), or wait for its "
                    "end, and migrate again.",
                ) from None
            _log.warning("migration_waits", behind=who, again_in=pause)
            time.sleep(pause)
        else:
            return
