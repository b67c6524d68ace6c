"""Errors over HTTP: RFC 9457 ``application/problem+json`` with a stable ``code``."""

from collections.abc import Mapping
from typing import Any

from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_handler

from station.core.errors import Kind, StationError
from station.observe.context import request_id

CONTENT_TYPE = "application/problem+json"
STATUS: Mapping[Kind, int] = {
    Kind.INVALID: 422,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.TOO_LARGE: 413,
    Kind.RATE_LIMITED: 429,
    Kind.UNAVAILABLE: 503,
    Kind.FAILED: 500,
}


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's hook: the problem response of an exception raised by a view."""
    if isinstance(error, StationError):
        status = STATUS[error.kind]
        body = {
            "title": (type(error).__doc__ or "").strip().splitlines()[0],
            "status": status,
            "code": error.code,
            "detail": error.message,
            "fix": error.fix,
            "request_id": request_id(),
            **error.details(),
        }
        return Response(body, status=status, content_type=CONTENT_TYPE)
    return drf_handler(error, dict(context))
