"""Who may do what, for every operation and every role; and that answers are as documented."""

from typing import Any

import pytest
from django.db import transaction
from rest_framework.exceptions import MethodNotAllowed

from tests.integration.api.documented import conforms
from tests.integration.api.routes import RULES, operations, path_of
from tests.integration.api.world import ROLES, SECRET, World

PROBLEM = "application/problem+json"


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
