"""Migrations beside processes that work: one at a time, and nobody waits behind them.

A change of a table waits for whoever reads it, a dump or a report of an hour, and everybody else
waits behind the change: heartbeats, too, so that all runs would be lost. So a change waits for two
seconds only, makes way, and comes again.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from django.core.management import call_command
from django.core.management.commands import migrate
from django.db import OperationalError, connection
from django.db.migrations import Migration
from psycopg.errors import LockNotAvailable

from station.core.errors import Unavailable

_log = structlog.get_logger(__name__)
_WAIT = "2s"
_PATIENCE = 600.0
_PAUSE = 3.0
_ALONE = "SELECT pg_advisory_lock(hashtext('station migrate'))"
_AMONG_OTHERS = "SELECT pg_advisory_unlock(hashtext('station migrate'))"
_IN_THE_WAY = """
  SELECT format('process %s (%s, %s s)', a.pid, coalesce(nullif(a.application_name, ''), 'unnamed'),
                round(extract(epoch FROM clock_timestamp() - a.xact_start)))
    FROM pg_stat_activity a
   WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL
   ORDER BY a.xact_start LIMIT 1
"""


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

    Raises:
        TablesInUse: somebody kept a table for ten minutes; what was migrated so far stays.
    """
    with _alone():
        patiently(lambda: call_command(_Command()))


def bound_waiting(migration: Migration) -> None:
    """Have the statements of ``migration`` wait for locks for two seconds only.

    One outside a transaction makes indexes beside everybody else: it holds nobody up, and an index
    that was given up would stay behind, broken.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [_bound(migration)])


def _bound(migration: Migration) -> str:
    return _WAIT if migration.atomic else "0"


def patiently(
    work: Callable[[], object], *, patience: float = _PATIENCE, pause: float = _PAUSE
) -> None:
    """``work()``, again and again while somebody keeps it from a table.

    Raises:
        TablesInUse: for ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            work()
        except OperationalError as error:
            if not isinstance(error.__cause__, LockNotAvailable):
                raise
            who = _who_is_in_the_way()
            if time.monotonic() + pause > deadline:
                raise TablesInUse(
                    f"A migration waited {patience:.0f} s for a table that {who} uses.",
                    fix="End that transaction (SELECT pg_terminate_backend(…)), or wait for its "
                    "end, and migrate again.",
                ) from None
            _log.warning("migration_waits", behind=who, again_in=pause)
            time.sleep(pause)
        else:
            return


def _who_is_in_the_way() -> str:
    with connection.cursor() as cursor:
        cursor.execute(_IN_THE_WAY)
        row = cursor.fetchone()
    return str(row[0]) if row else "somebody"


@contextmanager
def _alone() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(_ALONE)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(_AMONG_OTHERS)
