"""Migrations beside others."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.db import connection, transaction
from django.db.migrations import Migration
from structlog.testing import capture_logs

from station.ops import migrating
from tests.processes import test_database_url as database_url
from tests.processes import until

pytestmark = pytest.mark.django_db(transaction=True)


class Change(Migration):
    """One like any other."""


class MakesIndexes(Migration):
    atomic = False


@pytest.fixture(autouse=True)
def _afterwards() -> Iterator[None]:
    yield
    with connection.cursor() as cursor:
        cursor.execute("RESET lock_timeout")
        cursor.execute("ALTER TABLE agent_runs DROP COLUMN IF EXISTS novelty")


@contextmanager
def a_long_report() -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url(), application_name="a report") as reader:
        reader.execute("SELECT count(*) FROM agent_runs")
        yield reader


def change() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        migrating.bound_waiting(Change("change", "runs"))
        cursor.execute("SET LOCAL lock_timeout = '100ms'")  # its two seconds, for the test
        cursor.execute("ALTER TABLE agent_runs ADD COLUMN novelty integer")


def columns() -> list[str]:
    with connection.cursor() as cursor:
        return [
            c.name for c in connection.introspection.get_table_description(cursor, "agent_runs")
        ]


def lock_timeout() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        return str(cursor.fetchone()[0])


def test_a_change_makes_way_and_comes_again_until_the_table_is_free() -> None:
    with a_long_report() as reader, capture_logs() as logs:

        def end_the_report() -> None:
            until(lambda: logs, within=20, what="the warning")
            reader.rollback()

        release = threading.Thread(target=end_the_report)
        release.start()
        migrating.patiently(change, pause=0.05)
        release.join()
    assert "novelty" in columns()
    assert logs[0]["event"] == "migration_waits"
    assert "(a report, " in logs[0]["behind"]


def test_a_table_that_is_never_free_is_named_with_who_uses_it() -> None:
    with (
        a_long_report(),
        pytest.raises(migrating.TablesInUse, match=r"3 times .* that process \d+ \(a report"),
    ):
        migrating.patiently(change, tries=3, pause=0.1)
    assert "novelty" not in columns()


def test_a_change_that_is_sacrificed_to_end_a_deadlock_comes_again() -> None:
    tries = iter(("RAISE deadlock_detected", "NULL"))

    def change_crosswise() -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"DO $$ BEGIN {next(tries)}; END $$")

    migrating.patiently(change_crosswise, pause=0.05)
    assert next(tries, "none left") == "none left"


def test_only_migrations_in_a_transaction_wait_so_briefly() -> None:
    migrating.bound_waiting(Change("change", "runs"))
    assert lock_timeout() == "2s"
    migrating.bound_waiting(MakesIndexes("index", "runs"))
    assert lock_timeout() == "0"


def test_migrating_an_up_to_date_database_changes_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    migrating.run()
    assert "No migrations to apply" in capsys.readouterr().out
