"""Who may do what, for every operation and every role; and that answers are as documented."""

import json
from typing import Any

import jsonschema
import pytest
from django.db import transaction
from drf_spectacular.generators import SchemaGenerator
from rest_framework.exceptions import MethodNotAllowed

from tests.integration.api.routes import RULES, operations, path_of
from tests.integration.api.world import ROLES, SECRET, World

PROBLEM = "application/problem+json"


@pytest.fixture(scope="session")
def openapi() -> dict[str, Any]:
    document: dict[str, Any] = SchemaGenerator().get_schema(public=True)
    return document


def test_every_operation_has_a_rule() -> None:
    assert set(operations()) == set(RULES)


@pytest.mark.parametrize(("route", "method"), sorted(RULES))
def test_only_who_may_gets_in(
    world: World, openapi: dict[str, Any], route: str, method: str
) -> None:
    rule = RULES[route, method]
    path = path_of(route, world)
    for role in ROLES:
        with transaction.atomic():
            response = world.callers[role](method.upper(), path, rule.body(world))
            transaction.set_rollback(True)
        said = response.content.decode()
        assert response.status_code == rule.expected(role), f"{role}: {said}"
        assert SECRET not in said
        if response.status_code >= 400:
            assert response["Content-Type"] == PROBLEM
        elif method == "get":
            assert role != "stranger" or "own-" not in said
            assert role in ("stranger", "platform") or "other" not in said
        conforms(openapi, route, method, response.status_code, response.content)


@pytest.mark.parametrize("route", sorted({route for route, _ in RULES}))
def test_other_methods_are_refused(world: World, route: str) -> None:
    for method in {"get", "post", "put", "patch", "delete"} - {m for r, m in RULES if r == route}:
        response = world.callers["platform"](method.upper(), path_of(route, world))
        assert response.status_code == MethodNotAllowed.status_code
        assert response["Content-Type"] == PROBLEM


def conforms(openapi: dict[str, Any], route: str, method: str, status: int, content: bytes) -> None:
    """Fail unless the answer is one that the OpenAPI document describes."""
    operation = operation_of(openapi, route, method)
    responses = operation["responses"]
    assert str(status) in responses, f"{route} {method} does not document {status}"
    documented = responses[str(status)].get("content")
    if documented is None:
        assert content == b""
        return
    [(_, media)] = documented.items()
    schema = {**media["schema"], "components": openapi["components"]}
    jsonschema.validate(json.loads(content), schema, jsonschema.Draft202012Validator)


def operation_of(openapi: dict[str, Any], route: str, method: str) -> dict[str, Any]:
    """The documented operation of a route."""
    from django.urls import get_resolver

    template = get_resolver().reverse_dict.getlist(route)[0][0][0][0]
    path = "/" + template.replace("%(", "{").replace(")s", "}")
    operation: dict[str, Any] = openapi["paths"][path][method]
    return operation
