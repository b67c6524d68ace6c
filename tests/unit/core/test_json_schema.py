"""Holding values against schemas that nobody vouches for."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from station.core.json_schema import InvalidSchema, Schema, schema_of

BOUND = 5.0
"""Seconds, for what would take hours if it were done in the way that takes hours."""


EXPRESSION = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"op": {"const": op}, "a": {"$ref": "#"}},
            "required": ["op", "a"],
        }
        for op in ("and", "or", "not")
    ]
    + [{"type": "string"}]
}
OPTIONAL = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        "others": {"anyOf": [{"type": "array", "items": {"$ref": "#"}}, {"type": "null"}]},
    },
    "required": ["name"],
}
AGAIN = {"properties": {"a": {"$dynamicRef": "#n"}}}


def nested(levels: int, innermost: Any) -> Any:
    """Objects of one member ``a`` within each other."""
    for _ in range(levels):
        innermost = {"a": innermost}
    return innermost


def chain(length: int, link: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """A schema whose definitions each refer to the next, as ``link`` says."""
    definitions = {f"d{n}": link({"$ref": f"#/$defs/d{n + 1}"}) for n in range(length)}
    definitions[f"d{length}"] = {"type": "integer"}
    return {"$ref": "#/$defs/d0", "$defs": definitions}


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


def test_a_value_of_many_errors_is_told_the_first_one() -> None:
    schema = Schema({"items": {"type": "integer"}})
    assert str(schema.violation([""] * 300_000)) == '[0] "" is not of type "integer"'


def test_alternatives_that_fail_in_too_many_ways_are_still_a_violation() -> None:
    one = {"type": "object", "properties": {"a": {"$ref": "#"}}}
    schema = Schema({"anyOf": [one, one, {"type": "string"}]})
    assert "too many ways" in str(schema.violation(nested(13, 1)))


def test_an_ordinary_nest_of_optional_objects_is_told_where() -> None:
    value: Any = "x"
    for _ in range(7):
        value = {"name": "n", "next": value, "others": []}
    found = Schema(OPTIONAL).violation(value)
    assert found is not None
    assert found.path == ("next",) * 7


def test_a_union_of_expressions_is_told_how_far_it_came() -> None:
    value: Any = 1
    for _ in range(5):
        value = {"op": "and", "a": value}
    found = Schema(EXPRESSION).violation(value)
    assert found is not None
    assert found.path == ("a",) * 5


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (EXPRESSION, nested(150, 1)),
        ({"$dynamicAnchor": "n", "allOf": [AGAIN, AGAIN]}, nested(60, 1)),
        (
            {
                "$schema": "https://json-schema.org/draft/2019-09/schema",
                "$recursiveAnchor": True,
                "oneOf": [{"properties": {"a": {"$recursiveRef": "#"}}}] * 2,
            },
            nested(60, 1),
        ),
        ({"items": {"pattern": r"^(?=(a+))\1?(a+)+(b|a)*\1$"}}, ["a" * 200 + "!"] * 10_000),
        ({"items": {"enum": [{"a": number} for number in range(2_000)]}}, [{"a": -1}] * 20_000),
    ],
)
def test_a_value_that_might_take_too_long_counts_as_fitting(
    schema: dict[str, Any], value: Any
) -> None:
    assert Schema(schema).violation(value) is None


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (chain(40, lambda ref: {"allOf": [ref, ref]}), "too often"),
        (chain(40, lambda ref: {"anyOf": [ref, ref]}), "too often"),
        (chain(40, lambda ref: {"if": ref, "then": ref, "else": ref}), "too often"),
        (chain(600, lambda ref: ref), "too often"),
        (chain(10_000, lambda ref: ref), "references"),
        ({"$ref": "#/$defs/d", "$defs": {"d": {"allOf": [{"$ref": "#/$defs/d"}]}}}, "too often"),
        ({"enum": list(range(1_000_000))}, "values"),
        ({"properties": {str(n): {"pattern": r"(\w{100}){99}"} for n in range(900)}}, "patterns"),
    ],
)
def test_a_schema_that_no_value_can_be_held_against_is_none(
    schema: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidSchema, match=problem):
        Schema(schema)


def test_the_same_subschemas_are_harmless_where_they_do_not_multiply() -> None:
    schema = Schema(chain(40, lambda ref: {"allOf": [ref], "type": "integer"}))
    assert schema.violation(1) is None
    assert schema.violation("x") is not None


def test_a_pattern_that_takes_too_many_steps_counts_as_fitting() -> None:
    assert Schema({"pattern": r"^(?=(a+))\1?(a+)+(b|a)*\1$"}).violation("a" * 5_000 + "!") is None


def test_a_small_schema_is_made_once() -> None:
    made = {id(schema_of({"type": "string", "title": "the same"})) for _ in range(2)}
    assert len(made) == 1
    with pytest.raises(InvalidSchema):
        schema_of({"type": "no type"})
