"""What every log line of a task says about it: run, environment, request, principal.

The values live in context variables: they follow the task, its threads and its children.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from structlog.contextvars import bind_contextvars, bound_contextvars, get_contextvars

from station.core.principal import Principal

REQUEST_ID = "request_id"


@contextmanager
def bound(**values: object) -> Iterator[None]:
    """Add ``values`` to every log line written within."""
    with bound_contextvars(**values):
        yield


def bind_principal(principal: Principal) -> None:
    """Name the principal on the log lines of the present request from here on."""
    bind_contextvars(principal=f"{principal.kind}:{principal.id}")


def request_id() -> str:
    """The id of the request being answered, or ""."""
    return str(get_contextvars().get(REQUEST_ID, ""))
