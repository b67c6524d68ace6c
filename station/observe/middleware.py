"""The outermost middleware: a request's id, its log line and its metrics."""

import re
import time
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponseBase

from station.core.ids import uuid7
from station.observe.context import REQUEST_ID
from station.observe.metrics import HTTP_DURATION, HTTP_REQUESTS

HEADER = "X-Request-ID"
_SANE = re.compile(r"[A-Za-z0-9._:-]{8,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_log = structlog.get_logger(__name__)


class RequestContext:
    """Binds ``request_id`` to the log context, returns it as a header, counts and logs."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        given = request.headers.get(HEADER, "")
        request_id = given if _SANE.fullmatch(given) else str(uuid7())
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**{REQUEST_ID: request_id})
        response = self._get_response(request)
        response[HEADER] = request_id
        seconds = time.perf_counter() - started
        method = request.method if request.method in _METHODS else "OTHER"
        route = route_of(request)
        HTTP_REQUESTS.labels(method, route, str(response.status_code)).inc()
        HTTP_DURATION.observe(seconds)
        _log.info(
            "request",
            method=method,
            path=request.path,
            route=route,
            status=response.status_code,
            ms=round(seconds * 1000, 1),
        )
        return response


def route_of(request: HttpRequest) -> str:
    """The template of the URL that matched, like ``/api/v1/runs/<int:pk>``, else "unmatched"."""
    match = request.resolver_match
    return "unmatched" if match is None else f"/{match.route}"
