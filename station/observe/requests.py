"""An HTTP request as logs and metrics see it, whoever answers it."""

import re
import time
from collections.abc import Iterable

import structlog

from station.core.ids import uuid7
from station.observe.context import REQUEST_ID
from station.observe.metrics import HTTP_DURATION, HTTP_REQUESTS

HEADER = "X-Request-ID"
UNMATCHED = "unmatched"

_SANE = re.compile(r"[A-Za-z0-9._:-]{8,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_log = structlog.get_logger(__name__)


class Answering:
    """One request, from its arrival to its answer. Make it where it is answered."""

    def __init__(self, *, method: str, path: str, given_id: str, client: str = "") -> None:
        """Bind the request's id to the log context: ``given_id`` if it is sane, else a new one."""
        self._started = time.perf_counter()
        self._method = method if method in _METHODS else "OTHER"
        self._path, self._client = path, client
        self.request_id = given_id if _SANE.fullmatch(given_id) else str(uuid7())
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**{REQUEST_ID: self.request_id})

    def done(self, *, route: str, status: int, probe: bool = False, stream: bool = False) -> None:
        """Count and log the answer.

        Args:
            route: the template of the path, never the path itself.
            probe: a machine asks this every few seconds; logged at debug.
            stream: it lasted as long as the client wished; not among the durations.
        """
        seconds = time.perf_counter() - self._started
        HTTP_REQUESTS.labels(self._method, route, str(status)).inc()
        if not stream:
            HTTP_DURATION.observe(seconds)
        log = _log.debug if probe else _log.info
        log(
            "request",
            method=self._method,
            path=self._path,
            route=route,
            status=status,
            ms=round(seconds * 1000, 1),
            client=self._client,
        )


def header(headers: Iterable[tuple[bytes, bytes]], name: str) -> str:
    """The value of a header in an ASGI scope, or ""; ``name`` in lower case."""
    wanted = name.encode()
    return next((value.decode("latin-1") for key, value in headers if key.lower() == wanted), "")
