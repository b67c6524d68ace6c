"""Locks that somebody else holds."""

import contextlib
from collections.abc import Iterator

import psycopg
from django.db import connection

from tests.processes import test_database_url

_WAITING = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@contextlib.contextmanager
def locked(statement: str) -> Iterator[None]:
    """Hold the locks of ``statement``."""
    with psycopg.connect(test_database_url()) as other:
        other.execute(statement.encode())
        yield
        other.rollback()


@contextlib.contextmanager
def locked_runs(*run_ids: int) -> Iterator[None]:
    """Hold the locks of these runs' rows."""
    with psycopg.connect(test_database_url()) as other:
        other.execute("SELECT FROM agent_runs WHERE id = ANY (%s) FOR UPDATE", [list(run_ids)])
        yield
        other.rollback()


@contextlib.contextmanager
def never_waiting() -> Iterator[None]:
    """Whatever waits for somebody's lock in the block fails, instead of waiting for ever."""
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '2s'")
        try:
            yield
        finally:
            cursor.execute("RESET lock_timeout")


def waiting_for_locks() -> int:
    """How many connections of this database wait for a lock."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        return int(cursor.fetchone()[0])
