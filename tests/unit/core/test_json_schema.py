"""Holding values against schemas that nobody vouches for."""

import time
from typing import Any

import pytest

from station.core.json_schema import InvalidSchema, Schema

BOUND = 5.0
"""Seconds, for what would take hours if it were done in the way that takes hours."""


@pytest.mark.parametrize(
    ("schema", "value", "says"),
    [
        ({"type": "integer"}, "x", '"x" is not of type "integer"'),
        ({"properties": {"a": {"items": {"type": "integer"}}}}, {"a": [1, "x"]}, "['a'][1] \"x\""),
        ({"required": ["b"], "properties": {"a": {"type": "null"}}}, {"a": 1}, '"b" is a required'),
        (
            {"anyOf": [{"type": "string"}, {"properties": {"a": {"type": "integer"}}}]},
            {"a": "x"},
            "['a'] \"x\" is not of type",
        ),
        ({"additionalProperties": False, "properties": {"b": {}}}, {"a": 1}, "'a' was unexpected"),
        ({"pattern": r"^\p{L}+$"}, "1", "does not match"),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]},
            [1],
            '[0] 1 is not of type "string"',
        ),
    ],
)
def test_a_violation_says_where_and_what(schema: dict[str, Any], value: Any, says: str) -> None:
    assert says in str(Schema(schema).violation(value))


def test_what_fits_has_no_violation() -> None:
    schema = Schema({"type": "object", "properties": {"a": {"type": "integer"}}})
    assert schema.violation({"a": 1}) is None


def test_a_long_quotation_leaves_what_is_wrong_readable() -> None:
    said = str(Schema({"type": "integer"}).violation("x" * 100_000))
    assert said.endswith('is not of type "integer"')
    assert len(said) <= 300


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "strin"}, ".type"),
        ({"properties": {"a": {"minimum": "1"}}}, ".properties.a.minimum"),
        ({"items": [{"type": "string"}]}, ".items"),
        ({"pattern": "("}, ".pattern"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"title": "\ud800"}, "surrogates"),
    ],
)
def test_a_schema_that_is_none_says_where(schema: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidSchema, match=problem):
        Schema(schema)


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "http://127.0.0.1:9/schema"])
def test_nothing_is_fetched_for_a_reference(uri: str) -> None:
    with pytest.raises(InvalidSchema, match="Retrieval is disabled"):
        Schema({"$ref": uri})


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": r"^(\w+\s?)+$"}, "a" * 50_000 + "!"),
        ({"pattern": r"^(?=(a+))\1?(a+)+(b|a)*\1$"}, "a" * 50_000 + "!"),
        ({"patternProperties": {r"^(a+)+$": {}}}, {"a" * 50_000 + "!": 1}),
        ({"uniqueItems": True}, [{"a": number, "b": [number]} for number in range(50_000)]),
    ],
)
def test_no_schema_holds_the_process_up(schema: dict[str, Any], value: Any) -> None:
    begun = time.monotonic()
    Schema(schema).violation(value)
    assert time.monotonic() - begun < BOUND


def test_a_pattern_that_takes_too_many_steps_counts_as_fitting() -> None:
    assert Schema({"pattern": r"^(?=(a+))\1?(a+)+(b|a)*\1$"}).violation("a" * 5_000 + "!") is None
