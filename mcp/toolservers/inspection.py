"""Use cases that look at a live tool server: try it, discover its tools, read its complaints.

They run on the host of whoever asks (a web process, the CLI), a few at a time, and connect anew
each time: nothing is shared with the sessions that runs use.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, models
from redis.exceptions import RedisError

from station.config import current
from station.core.errors import Kind, Unavailable
from station.core.principal import Principal, Role
from toolservers import services
from toolservers.definition import ServerDefinition, ServerReport
from toolservers.errors import ToolServerError
from toolservers.logs import StderrLine, StderrLog, read_stderr
from toolservers.models import Tool, ToolServer

_AT_ONCE = 4
_LONGEST = 60.0
_CLOSING = 5.0
_slots = threading.BoundedSemaphore(_AT_ONCE)


class DiscoveryFailed(ToolServerError):
    """The tool server did not say which tools it has."""

    code = "discovery_failed"
    kind = Kind.UNAVAILABLE


def test(principal: Principal, server: ToolServer) -> ServerReport:
    """Connect, list the tools, and close. For operators of the server's environment.

    Takes at most a minute. A stdio server's command runs on this host, if the operator's
    configuration allows it here.

    Raises:
        ToolServerError: a subclass says what went wrong.
        InvalidInput: the definition refers to a variable that does not exist.
        Unavailable: too many servers are being tried by this process.
    """
    principal.require(Role.OPERATOR, server.environment_id)
    definition = services.resolve(server)
    with _one_of_few():
        if not connection.in_atomic_block:
            connection.close()  # gives it back to the pool while the server is being waited for
        return asyncio.run(_probe(definition))


def discover(principal: Principal, server: ToolServer) -> models.QuerySet[Tool]:
    """Store the tools the server offers now, or why it could not be asked.

    For operators of the server's environment.

    Raises:
        DiscoveryFailed: the server did not answer as it should.
        StdioCommandNotAllowed, InvalidInput, Unavailable: like :func:`test`.
    """
    try:
        report = test(principal, server)
    except ToolServerError as error:
        services.store_failure(server, str(error))
        if error.kind is not Kind.FAILED:
            raise
        raise DiscoveryFailed(error.message, fix=error.fix, permanent=error.permanent) from error
    services.store_discovery(server, report.listed)
    return services.visible_tools(principal).filter(server=server, available=True)


def stderr(server: ToolServer, *, lines: int) -> list[StderrLine]:
    """The last lines a visible stdio server wrote to standard error on any host.

    Raises:
        Unavailable: Valkey, which keeps them, is away.
    """
    try:
        return read_stderr(current().redis.url.get_secret_value(), server.pk, lines=lines)
    except RedisError:
        raise Unavailable(
            "Valkey, which keeps the lines, does not answer.", retry_after=5
        ) from None


async def _probe(definition: ServerDefinition) -> ServerReport:
    from toolservers.pool import SessionPool  # noqa: PLC0415 - 1.4 s of CPU, most never need it

    settings = current().mcp
    log = StderrLog(current().redis.url.get_secret_value())
    pool = SessionPool(
        size=1,
        max_retries=0,
        output_limit=settings.output_limit,
        passed_environment=settings.stdio_environment,
        allowed_commands=settings.stdio_commands,
        on_stderr=log.write,
    )
    try:
        async with asyncio.timeout(_LONGEST):
            return await pool.probe(definition)
    except TimeoutError:
        raise ToolServerError(
            f"Tool server {definition.name} did not answer within {_LONGEST:g} s."
        ) from None
    finally:
        async with asyncio.timeout(_CLOSING):
            await pool.close()
            await log.close()


@contextmanager
def _one_of_few() -> Iterator[None]:
    if not _slots.acquire(timeout=1):
        raise Unavailable(
            f"{_AT_ONCE} tool servers are being tried already.",
            fix="Try again in a moment.",
            retry_after=5,
        )
    try:
        yield
    finally:
        _slots.release()
