"""Migrations that make indexes beside others: in turn, interrupted, and run again."""

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import OperationalError, connection, models
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from structlog.testing import capture_logs

from station.ops import migrating, waits
from station.ops.turns import alone
from station.postgresql.operations import AddIndexRepeatably
from tests.processes import test_database_url as database_url
from tests.processes import until

pytestmark = pytest.mark.django_db(transaction=True)
PROBE = "agent_runs_probe"
WITHIN = 30.0
INDEXING = [
    migration
    for _, migration in sorted(MigrationLoader(None).disk_migrations.items())
    if not migration.atomic
]


@pytest.fixture(autouse=True)
def _afterwards() -> Iterator[None]:
    yield
    with connection.cursor() as cursor:
        cursor.execute(f"DROP INDEX IF EXISTS {PROBE}")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


@contextmanager
def a_long_report() -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url(), application_name="a report") as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ  # it keeps its snapshot
        reader.execute("SELECT count(*) FROM agent_runs")
        yield reader


def make_the_index() -> None:
    add = AddIndexRepeatably("run", models.Index(fields=["created_at"], name=PROBE))
    before = MigrationLoader(connection).project_state()
    after = before.clone()
    add.state_forwards("runs", after)
    with connection.schema_editor(atomic=False) as editor:
        add.database_forwards("runs", editor, before, after)


def migrate_the_index(sessions: list[psycopg.Connection] | None = None) -> None:
    """What `station migrate` does with it; the session that does it is put into ``sessions``."""
    with alone():
        if sessions is not None:
            sessions.append(connection.connection)
        migrating.patiently(make_the_index)


def aside(threads: ThreadPoolExecutor, work: Callable[[], object]) -> Future[None]:
    """``work()`` on a connection of its own, as another process has one."""

    def working() -> None:
        try:
            work()
        finally:
            connection.close()

    return threads.submit(working)


def asked(question: str, *parameters: str | int) -> object:
    with connection.cursor() as cursor:
        cursor.execute(question, parameters)
        row = cursor.fetchone()
    return row and row[0]


def is_valid() -> object:
    """Of the index: True, False, or None if there is none."""
    return asked("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", PROBE)


def index_waits_for(reader: psycopg.Connection) -> bool:
    return bool(
        asked(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE query LIKE %s AND %s = ANY (pg_blocking_pids(pid))",
            f"CREATE INDEX CONCURRENTLY%{PROBE}%",
            reader.info.backend_pid,
        )
    )


def events(logs: Iterable[Mapping[str, object]], name: str) -> list[str]:
    return [str(entry["behind"]) for entry in logs if entry["event"] == name]


def test_a_second_migrator_waits_its_turn_while_the_first_makes_an_index(
    threads: ThreadPoolExecutor,
) -> None:
    with a_long_report() as reader, capture_logs() as logs:
        first = aside(threads, migrate_the_index)
        until(lambda: index_waits_for(reader), within=WITHIN, what="the index behind the report")
        second = aside(threads, migrating.run)
        until(
            lambda: events(logs, "migration_waits_its_turn"),
            within=WITHIN,
            what="the second, which waits",
        )
        assert not first.done()
        reader.rollback()
        first.result(WITHIN)
        second.result(WITHIN)
    assert is_valid()
    (behind,) = events(logs, "migration_waits_its_turn")
    assert "(station migrate, " in behind
    assert events(logs, "migration_waits") == []  # nobody had to try again


def test_the_log_says_whom_an_index_waits_for(threads: ThreadPoolExecutor) -> None:
    def migrate() -> None:
        with waits.told(every=0.05):
            migrate_the_index()

    with a_long_report() as reader, capture_logs() as logs:
        first = aside(threads, migrate)
        until(
            lambda: any("(a report, " in who for who in events(logs, "migration_waits")),
            within=WITHIN,
            what="the warning",
        )
        reader.rollback()
        first.result(WITHIN)


def test_a_migrator_that_is_killed_leaves_at_once_and_its_migration_can_be_run_again(
    threads: ThreadPoolExecutor,
) -> None:
    sessions: list[psycopg.Connection] = []
    with a_long_report() as reader:
        first = aside(threads, lambda: migrate_the_index(sessions))
        until(lambda: index_waits_for(reader), within=WITHIN, what="the index behind the report")
        pid = sessions[0].info.backend_pid
        with socket.socket(fileno=os.dup(sessions[0].fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)  # as the system does for a process that dies
        with pytest.raises(OperationalError):
            first.result(WITHIN)
        until(
            lambda: not asked("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", pid),
            within=WITHIN,
            what="the end of its session",
        )
        assert is_valid() is False
    migrate_the_index()
    assert is_valid()


def test_an_index_that_was_made_but_not_recorded_is_made_again() -> None:
    make_the_index()
    make_the_index()
    assert is_valid()


@pytest.mark.parametrize("migration", INDEXING, ids=str)
def test_a_migration_outside_a_transaction_can_be_run_again(migration: Migration) -> None:
    state = MigrationLoader(connection).project_state(
        (migration.app_label, migration.name), at_end=False
    )
    with connection.schema_editor(atomic=False) as editor:
        migration.apply(state, editor)
    assert asked("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0


def test_the_session_of_a_migration_is_as_before_afterwards() -> None:
    kept = ("application_name", "client_connection_check_interval", "lock_timeout")
    before = [asked(f"SHOW {name}") for name in kept]
    migrating.run()
    assert [asked(f"SHOW {name}") for name in kept] == before


def test_no_migration_makes_an_index_that_cannot_be_made_again() -> None:
    operations = [operation for migration in INDEXING for operation in migration.operations]
    assert {type(operation) for operation in operations} <= {
        AddIndexRepeatably,
        RemoveIndexConcurrently,
    }
