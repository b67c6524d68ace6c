"""Django's PostgreSQL backend with a connection pool that is whole again once the server is.

psycopg's pool is made for a server that stays: after a restart it tries the connections it kept
one by one, and waits 1, 2, 4, 8 … seconds in between; while it cannot connect it waits as long,
without a bound. With ten idle connections the first query after a restart of two seconds waits for
over 30 s, and an outage of a minute lasts for two. Here the first broken connection has all the
others looked at, and a process that cannot connect tries once a second.

A primary that has become a replica goes on to answer on the connections it has. A refusal to write
is an ``OperationalError`` here, as if the server were gone, and its connection is not used again.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar

from django.db import OperationalError
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base
from django.db.utils import DatabaseErrorWrapper
from django.utils.functional import cached_property
from psycopg import Connection
from psycopg.errors import ReadOnlySqlTransaction
from psycopg_pool import ConnectionPool

_GIVEN_UP_AFTER = 2.0
"""Seconds; the pool's pauses grow within them only."""


class DatabaseWrapper(base.DatabaseWrapper):
    """The backend; ``OPTIONS["pool"]`` holds the settings of psycopg's pool."""

    # Django's, which its stubs leave out.
    _connection_pools: ClassVar[dict[str, ConnectionPool[Connection[Any]]]]
    _configure_connection: Callable[[Connection[Any]], None]

    @cached_property
    def wrap_database_errors(self) -> DatabaseErrorWrapper:
        return _Errors(self)

    @property
    def pool(self) -> ConnectionPool[Connection[Any]] | None:
        options = self.settings_dict["OPTIONS"].get("pool")
        if options and self.alias not in (NO_DB_ALIAS, *self._connection_pools):
            # As in Django, threads that come here at once may make several: none is open yet.
            self._connection_pools.setdefault(self.alias, self._new_pool(options))
        found: ConnectionPool[Connection[Any]] | None = super().pool
        return found

    def _new_pool(self, options: dict[str, Any]) -> ConnectionPool[Connection[Any]]:
        def check(connection: Connection[Any]) -> None:
            try:
                pool.check_connection(connection)
            except Exception:
                pool.check()
                raise

        pool = ConnectionPool(
            kwargs=self.get_connection_params() | {"autocommit": True},
            open=False,
            configure=self._configure_connection,
            check=check,
            reconnect_timeout=_GIVEN_UP_AFTER,
            reconnect_failed=ConnectionPool.check,
            **options,
        )
        return pool


class _Errors(DatabaseErrorWrapper):
    """Django's translation of psycopg's errors, but for a server that has become a replica."""

    wrapper: DatabaseWrapper

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, ReadOnlySqlTransaction):
            self.wrapper.errors_occurred = True
            self.wrapper.connection.close()
            raise OperationalError(*error.args).with_traceback(traceback) from error
        super().__exit__(kind, error, traceback)
