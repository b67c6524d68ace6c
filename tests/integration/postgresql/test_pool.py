"""The pool of connections when its server restarts or is not there."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, transaction

from station.config.schema import Database
from station.postgresql.base import DatabaseWrapper
from tests.processes import test_database_url as database_url
from tests.processes import until

pytestmark = pytest.mark.django_db(transaction=True)
KEPT = 8
PATIENCE = "6s"
"""psycopg's own pool would pause for 0, 1, 2 and 4 s before the fifth dead connection."""
DEFAULTS: dict[str, Any] = {
    "AUTOCOMMIT": True,
    "ATOMIC_REQUESTS": False,
    "TIME_ZONE": None,
    "TEST": {},
}


def _database(url: str, **settings: Any) -> DatabaseWrapper:
    given = Database.model_validate({"url": url, **settings}).django()
    return DatabaseWrapper(DEFAULTS | given, alias="pool under test")


@pytest.fixture
def database(transactional_db: None) -> Iterator[DatabaseWrapper]:
    wrapper = _database(
        f"{database_url()}?application_name=broken",
        max_connections=KEPT,
        max_idle_connections=KEPT,
        connection_timeout=PATIENCE,
    )
    yield wrapper
    wrapper.close()
    wrapper.close_pool()


def test_the_first_query_after_a_restart_does_not_try_every_dead_connection(
    database: DatabaseWrapper,
) -> None:
    assert database.pool is not None
    database.pool.open(wait=True)
    with psycopg.connect(database_url(), autocommit=True) as other:
        ended = other.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
            "WHERE application_name = 'broken'"
        ).fetchone()
    assert ended == (KEPT,)
    with database.pool.connection() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_server_that_is_away_is_tried_every_second() -> None:
    tries: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def turn_away() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                tries.append(0)
                connection.close()

        threading.Thread(target=turn_away, daemon=True).start()
        wrapper = _database(
            f"postgresql://nobody@127.0.0.1:{server.getsockname()[1]}/none",
            max_connections=1,
            max_idle_connections=1,
        )
        assert wrapper.pool is not None
        wrapper.pool.open()
        # After 0, 1, 3, 7, 15 and 31 s would be psycopg's own pool.
        until(lambda: len(tries) >= 6, within=25, what="the sixth try")
        wrapper.close_pool()
        server.shutdown(socket.SHUT_RDWR)


def test_a_server_that_has_become_a_replica_is_left(transactional_db: None) -> None:
    write = "CREATE TABLE written (id int)"
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
        with pytest.raises(OperationalError, match="read-only"):
            cursor.execute(write)
    connection.close()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(write)
        transaction.set_rollback(True)


def test_a_server_that_takes_no_writes_is_not_connected_to(transactional_db: None) -> None:
    replica = _database(
        f"{database_url()}?options=-cdefault_transaction_read_only%3Don",
        max_connections=1,
        max_idle_connections=0,
        connection_timeout="2s",
    )
    with pytest.raises(OperationalError):
        replica.cursor()
    replica.close_pool()
