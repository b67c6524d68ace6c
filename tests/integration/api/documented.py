"""What the OpenAPI document says, for comparing it with what is answered."""

import json
from typing import Any

import jsonschema
from django.urls import get_resolver


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
    template = get_resolver().reverse_dict.getlist(route)[0][0][0][0]
    path = "/" + template.replace("%(", "{").replace(")s", "}")
    operation: dict[str, Any] = openapi["paths"][path][method]
    return operation
