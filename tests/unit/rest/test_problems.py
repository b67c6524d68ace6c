"""Which problem a failure becomes over HTTP."""

import json
from typing import Any

import pytest
from django.core.exceptions import (
    BadRequest,
    DisallowedHost,
    PermissionDenied,
    RequestDataTooBig,
    ValidationError,
)
from django.db import DataError, IntegrityError, OperationalError
from django.http import Http404
from django.test import RequestFactory
from prometheus_client import REGISTRY
from psycopg.errors import NotNullViolation, UniqueViolation
from rest_framework import exceptions as drf
from rest_framework import serializers

from station.core import errors
from station.observe.context import bound
from station.rest import problems


def _answer(error: Exception) -> Any:
    return problems.exception_handler(error, {})


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.InvalidInput("name", "is empty"), 422, "invalid_input"),
        (errors.InputTooLarge("body", "is too large"), 413, "input_too_large"),
        (errors.Unauthenticated(), 401, "unauthenticated"),
        (errors.Forbidden(), 403, "forbidden"),
        (errors.NotFound(), 404, "not_found"),
        (errors.Conflict(), 409, "conflict"),
        (errors.Unavailable(retry_after=3), 503, "unavailable"),
        (errors.StationError(), 500, "failed"),
        (drf.ValidationError({"name": ["no"]}), 422, "invalid_input"),
        (drf.ParseError(), 400, "malformed_body"),
        (drf.NotAuthenticated(), 401, "unauthenticated"),
        (drf.AuthenticationFailed(), 401, "unauthenticated"),
        (drf.PermissionDenied(), 403, "forbidden"),
        (drf.NotFound(), 404, "not_found"),
        (drf.MethodNotAllowed("PUT"), 405, "method_not_allowed"),
        (drf.NotAcceptable(), 406, "not_acceptable"),
        (drf.UnsupportedMediaType("text/xml"), 415, "unsupported_media_type"),
        (drf.Throttled(wait=7), 429, "rate_limited"),
        (ValidationError({"name": ["no"]}), 422, "invalid_input"),
        (Http404(), 404, "not_found"),
        (PermissionDenied(), 403, "forbidden"),
        (RequestDataTooBig(), 413, "input_too_large"),
        (DisallowedHost(), 400, "unknown_host"),
        (BadRequest(), 400, "bad_request"),
        (DataError(), 422, "invalid_input"),
        (OperationalError(), 503, "database_unavailable"),
        (RuntimeError("canary"), 500, "internal_error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_every_failure_has_its_status_and_code(error: Exception, status: int, code: str) -> None:
    with bound(request_id="r-1"):
        answer = _answer(error)
    assert (answer.status_code, answer.data["status"], answer.data["code"]) == (
        status,
        status,
        code,
    )
    assert answer.data["type"] == f"urn:station:problem:{code}"
    assert answer.data["request_id"] == "r-1"
    assert answer.data["title"]
    assert answer.data["detail"]
    assert answer.content_type == "application/problem+json"


def test_a_unique_violation_is_a_conflict_and_another_violation_is_a_bug() -> None:
    def violation(cause: Exception) -> IntegrityError:
        error = IntegrityError("row with canary")
        error.__cause__ = cause
        return error

    assert _answer(violation(UniqueViolation())).status_code == 409
    assert _answer(violation(NotNullViolation())).status_code == 500


def test_a_bug_is_counted_and_tells_only_its_reference() -> None:
    def count() -> float:
        return REGISTRY.get_sample_value("station_errors_total", {"component": "web"}) or 0.0

    before = count()
    with bound(request_id="r-2"):
        answer = _answer(RuntimeError("canary"))
    assert count() == before + 1
    assert "canary" not in json.dumps(answer.data)
    assert "r-2" in answer.data["detail"]


def test_answers_say_when_to_try_again_and_how_to_authenticate() -> None:
    assert _answer(errors.Unavailable(retry_after=0.2))["Retry-After"] == "1"
    assert _answer(drf.Throttled(wait=7))["Retry-After"] == "7"
    assert _answer(errors.Unauthenticated())["WWW-Authenticate"].startswith("Bearer")
    assert _answer(drf.NotAuthenticated())["WWW-Authenticate"].startswith("Bearer")


def test_fields_are_named_by_dotted_paths() -> None:
    class Grant(serializers.Serializer[Any]):
        tool = serializers.CharField()

    class Agent(serializers.Serializer[Any]):
        name = serializers.CharField()
        grants = Grant(many=True)

        def validate(self, attrs: Any) -> Any:
            raise serializers.ValidationError("contradicts itself")

    def fields(body: Any) -> set[str]:
        serializer = Agent(data=body)
        serializer.is_valid()
        answer = _answer(drf.ValidationError(serializer.errors))
        return {error["field"] for error in answer.data["errors"]}

    assert fields({"grants": [{"tool": "x"}, {}]}) == {"name", "grants.1.tool"}
    assert fields({"name": "x", "grants": []}) == {"body"}
    assert fields([]) == {"body"}


def test_many_errors_are_all_listed_but_not_all_in_the_sentence() -> None:
    answer = _answer(drf.ValidationError({f"f{n}": ["no"] for n in range(9)}))
    assert len(answer.data["errors"]) == 9
    assert answer.data["detail"].endswith("and 4 more")


def test_outside_of_views_the_api_answers_in_problems_too() -> None:
    request = RequestFactory().get("/api/v1/x")
    for answer, status in (
        (problems.bad_request(request, RequestDataTooBig()), 413),
        (problems.bad_request(request, DisallowedHost()), 400),
        (problems.permission_denied(request, PermissionDenied()), 403),
        (problems.not_found(request, Http404()), 404),
        (problems.server_error(request), 500),
    ):
        assert answer.status_code == status
        assert answer["Content-Type"] == "application/problem+json"
    page = problems.not_found(RequestFactory().get("/x"), Http404())
    assert page["Content-Type"].startswith("text/html")
