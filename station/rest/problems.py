"""Errors over HTTP: RFC 9457 ``application/problem+json`` with a stable ``code``.

Members: ``type`` (a URN of the code), ``title``, ``status``, ``code``, ``detail``, ``fix`` where
there is one, ``errors`` (``field``, ``problem``, ``fix``) where fields are to blame, and
``request_id``, which finds the log lines.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from django.core.exceptions import (
    BadRequest,
    DisallowedHost,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.core.exceptions import ValidationError as ModelValidationError
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponseBase, JsonResponse
from django.views import defaults
from psycopg.errors import UniqueViolation
from rest_framework import exceptions as drf
from rest_framework.response import Response

from station.core.errors import Kind, StationError
from station.observe.context import request_id
from station.observe.metrics import ERRORS
from station.rest.fields import flattened, flattened_model

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
_API = "/api/"
_RETRY_DATABASE = 5
_UNIQUE_VIOLATION = UniqueViolation.sqlstate
_log = structlog.get_logger(__name__)


def problem(
    status: int, code: str, detail: str, *, fix: str = "", title: str = "", **members: Any
) -> dict[str, Any]:
    """The members of a problem; ``title`` is the status's usual phrase when left out."""
    body: dict[str, Any] = {
        "type": f"urn:station:problem:{code}",
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if fix:
        body["fix"] = fix
    return {**body, **members, "request_id": request_id()}


def problem_of(error: StationError) -> tuple[int, dict[str, Any]]:
    """HTTP status and problem members of one of Station's errors."""
    status = STATUS[error.kind]
    title = (type(error).__doc__ or "").strip().partition("\n")[0]
    body = problem(status, error.code, error.message, fix=error.fix, title=title, **error.details())
    return status, body


def headers_of(status: int, body: Mapping[str, Any]) -> dict[str, str]:
    """The headers that go with a problem: how to authenticate, when to try again."""
    headers = {"Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="station"'
    if "retry_after" in body:
        headers["Retry-After"] = str(max(1, round(body["retry_after"])))
    return headers


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response:
    """DRF's hook: the problem response of whatever a view raised.

    What is expected becomes its own status; the rest is a bug: 500, a reference, and the traceback
    in the log.
    """
    found = _of_station(error) or _of_rest_framework(error) or _of_django(error) or bug(error)
    response = Response(found, status=found["status"], content_type=CONTENT_TYPE)
    for name, value in headers_of(found["status"], found).items():
        response[name] = value
    if isinstance(error, drf.MethodNotAllowed) and (view := context.get("view")):
        response["Allow"] = ", ".join(view.allowed_methods)
    response._has_been_logged = True  # type: ignore[attr-defined] # else django.request logs it again
    return response


def bug(error: BaseException) -> dict[str, Any]:
    """Count and log an unexpected exception; the problem that tells of it without its text."""
    ERRORS.labels("web").inc()
    _log.error("request_errored", exc_info=error)
    return _errored()


def _errored() -> dict[str, Any]:
    return problem(
        500,
        "internal_error",
        f"Station failed to do this. The reference is {request_id() or 'in the log'}.",
        fix="Give the reference to whoever operates Station: it finds the cause in the log.",
    )


def _of_station(error: Exception) -> dict[str, Any] | None:
    return problem_of(error)[1] if isinstance(error, StationError) else None


def _of_rest_framework(error: Exception) -> dict[str, Any] | None:  # noqa: PLR0911 - one mapping
    match error:
        case drf.ValidationError():
            return _invalid(flattened(error.detail))
        case drf.ParseError():
            return problem(400, "malformed_body", str(error.detail), fix="Send valid JSON.")
        case drf.NotAuthenticated() | drf.AuthenticationFailed():
            return problem(
                401,
                "unauthenticated",
                str(error.detail),
                fix="Send Authorization: Bearer stn_…, or log in.",
            )
        case drf.PermissionDenied():
            return problem(403, "forbidden", str(error.detail))
        case drf.NotFound():
            return _not_found()
        case drf.MethodNotAllowed():
            return problem(405, "method_not_allowed", str(error.detail))
        case drf.NotAcceptable():
            return problem(406, "not_acceptable", str(error.detail), fix="Accept application/json.")
        case drf.UnsupportedMediaType():
            return problem(
                415,
                "unsupported_media_type",
                str(error.detail),
                fix="Send JSON with Content-Type: application/json.",
            )
        case drf.Throttled():
            seconds = getattr(error, "wait", None)
            wait = {} if seconds is None else {"retry_after": seconds}
            return problem(429, "rate_limited", str(error.detail), **wait)
        case drf.APIException():
            return problem(error.status_code, str(error.default_code), str(error.detail))
    return None


def _of_django(error: Exception) -> dict[str, Any] | None:  # noqa: PLR0911 - one mapping
    match error:
        case ModelValidationError():
            return _invalid(flattened_model(error))
        case Http404():
            return _not_found()
        case PermissionDenied():
            return problem(403, "forbidden", "You may not do this.")
        case RequestDataTooBig():
            return problem(413, "input_too_large", "The body is too large.")
        case DisallowedHost():
            return problem(
                400,
                "unknown_host",
                "Station does not answer to this host name.",
                fix="The operator lists host names in api.allowed_hosts.",
            )
        case SuspiciousOperation() | BadRequest():
            return problem(400, "bad_request", "The request is not valid.")
        case DataError():
            return problem(
                422,
                "invalid_input",
                "The input holds a value that the database cannot store: a number out of range, or"
                " a NUL character.",
            )
        case IntegrityError() if _sqlstate(error) == _UNIQUE_VIOLATION:
            return problem(409, "conflict", "There is one like this already.")
        case OperationalError() | InterfaceError():
            ERRORS.labels("web").inc()
            _log.warning("database_unavailable", problem=str(error).strip())
            return problem(
                503,
                "database_unavailable",
                "The database does not answer.",
                fix="Try again in a moment.",
                retry_after=_RETRY_DATABASE,
            )
    return None


def _invalid(errors: list[dict[str, str]]) -> dict[str, Any]:
    detail = "; ".join(f"{e['field']}: {e['problem']}" for e in errors[:5])
    if len(errors) > 5:
        detail += f"; and {len(errors) - 5} more"
    return problem(422, "invalid_input", detail, title="The input is not valid.", errors=errors)


def _not_found() -> dict[str, Any]:
    return problem(404, "not_found", "There is no such thing, or it is not visible to you.")


def _sqlstate(error: BaseException) -> str | None:
    return getattr(error.__cause__, "sqlstate", None)


# Django's error views, named in station.urls: problems for the API, pages for people.


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """handler400."""
    if not request.path.startswith(_API):
        return defaults.bad_request(request, exception)
    return _answer(_of_django(exception) or _of_django(BadRequest()))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """handler403."""
    if not request.path.startswith(_API):
        return defaults.permission_denied(request, exception)
    return _answer(_of_django(PermissionDenied()))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """handler404."""
    if not request.path.startswith(_API):
        return defaults.page_not_found(request, exception)
    return _answer(
        problem(
            404,
            "no_such_path",
            f"There is nothing at {request.path}.",
            fix="GET /api/v1/ lists what there is.",
        )
    )


def server_error(request: HttpRequest) -> HttpResponseBase:
    """handler500. Django has logged the traceback and told the ``got_request_exception`` signal."""
    if not request.path.startswith(_API):
        return defaults.server_error(request)
    return _answer(_errored())


def _answer(body: dict[str, Any] | None) -> JsonResponse:
    assert body is not None
    status = body["status"]
    return JsonResponse(
        body, status=status, content_type=CONTENT_TYPE, headers=headers_of(status, body)
    )
