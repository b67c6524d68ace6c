"""Counting what the engine may have to do, before it does it."""

import math
from typing import Any

import pytest
from jsonschema_rs import validator_for

from station.core.schema_cost import Costs, too_large

TWICE = [{"$ref": "#/$defs/b"}, {"$ref": "#/$defs/b"}]


def steps(schema: dict[str, Any], value: Any) -> float:
    return Costs(schema).of(value).steps


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_subschemas_applied_to_one_value_add_up(keyword: str) -> None:
    once = steps({keyword: TWICE[:1], "$defs": {"b": {"type": "null"}}}, 1)
    twice = steps({keyword: TWICE, "$defs": {"b": {"type": "null"}}}, 1)
    assert twice - once == 3  # the reference, what it refers to, and its type


def test_members_are_counted_each() -> None:
    schema = {"items": {"type": "integer"}}
    assert steps(schema, [1] * 1_000) - steps(schema, []) == 2_000


def test_a_member_meets_one_of_the_properties() -> None:
    one = steps({"properties": {"a": {"type": "null"}}}, {"a": 1})
    many = steps({"properties": {"a": {"type": "null"}, "b": {"type": "null"}}}, {"a": 1})
    assert many - one == 1  # the longer list


def test_a_member_may_meet_patterns_and_properties_together() -> None:
    named = {"properties": {"a": {"type": "null"}}}
    assert steps(named | {"patternProperties": {"a": {"type": "null"}}}, {"a": 1}) > steps(
        named, {"a": 1}
    )


def test_recursive_alternatives_double_with_each_level() -> None:
    costs = Costs({"anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]})
    value: Any = 1
    for _ in range(60):
        value = [value]
    assert costs.of(value).steps > 2.0**60


def test_a_list_of_itself_grows_with_its_values_only() -> None:
    costs = Costs({"type": "array", "items": {"$ref": "#"}})
    value: Any = []
    for _ in range(190):
        value = [value]
    assert costs.of(value).steps < 2_000


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"allOf": [{"$dynamicRef": "#a"}], "$dynamicAnchor": "a"},
        {"anyOf": [{"$recursiveRef": "#"}]},
        {"not": {"$ref": "other"}, "$id": "http://x/other"},
        {"$ref": "http://json-schema.org/draft-07/schema#"},
    ],
)
def test_what_leads_back_to_itself_or_away_has_no_bound(schema: dict[str, Any]) -> None:
    assert steps(schema, 1) == math.inf


@pytest.mark.parametrize(
    "reference", ["#/$defs/a~1b", "#here", "inner", "inner#/$defs/c", "#/$defs/a%7E1b"]
)
def test_a_reference_is_followed_wherever_it_leads(reference: str) -> None:
    inner = {"$anchor": "here", "$id": "inner", "enum": list(range(500)), "$defs": {"c": {}}}
    inner["$defs"]["c"] = {"enum": list(range(500))}  # type: ignore[index]
    assert steps({"$ref": reference, "$defs": {"a/b": inner}}, 1) > 500


def test_what_is_asked_for_as_unevaluated_asks_its_siblings_again() -> None:
    siblings: dict[str, Any] = {"allOf": [{"anyOf": [{"type": "object"}]}]}
    assert steps(siblings | {"unevaluatedProperties": False}, {}) > 1.5 * steps(siblings, {})


def test_a_pattern_that_may_backtrack_costs_far_more() -> None:
    value = ["x"] * 100
    plain = steps({"items": {"pattern": "^x+$"}}, value)
    assert steps({"items": {"pattern": "^(?!y)x+$"}}, value) > 100 * plain


def test_errors_of_a_large_value_weigh_what_telling_them_takes() -> None:
    costs = Costs({"allOf": [{"type": "integer"}] * 50})
    assert costs.of("x" * 1_000_000).errors > 1_000 * costs.of("x").errors / 2


def test_an_error_weighs_what_it_quotes_of_the_schema() -> None:
    few, many = (Costs({"enum": [{"a": n} for n in range(count)]}) for count in (1, 1_000))
    assert many.of(1).errors > 50 * few.of(1).errors


def test_an_error_of_a_name_weighs_what_the_whole_object_does() -> None:
    value = {str(number): "x" * 10 for number in range(10_000)}
    names = Costs({"propertyNames": {"type": "null"}}).of(value).errors
    assert names > 50 * Costs({"additionalProperties": {"type": "null"}}).of(value).errors


def test_calculating_with_a_long_number_costs_more_than_its_length() -> None:
    schema = {"multipleOf": 7}
    assert steps(schema, 10**4_000) > 50 * steps(schema, 10**400) > 500 * steps(schema, 10**4)


def test_an_ordinary_schema_is_not_too_large() -> None:
    assert too_large({"properties": {str(n): {"type": "string"} for n in range(5_000)}}) is None


class _Counter:
    """A keyword that counts how often the engine comes by."""

    visits = 0

    def __init__(self, *_where: object) -> None:
        """The engine makes one for each subschema that has the keyword."""

    def validate(self, _value: object) -> None:
        _Counter.visits += 1


def counting(schema: Any) -> Any:
    """``schema`` with the counter in each of its objects that has a keyword."""
    if isinstance(schema, list):
        return [counting(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: counting(each) for key, each in schema.items()}
    return inner | ({"counted": 1} if schema.keys() & KEYWORDS else {})


KEYWORDS = {"$ref", "type", "allOf", "anyOf", "oneOf", "properties", "items", "not"}
ITSELF = {"$ref": "#"}


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"items": ITSELF}, {"items": ITSELF}, {"type": "null"}]},
        {"oneOf": [{"properties": {"a": ITSELF}, "type": "object"}, {"type": "array"}]},
        {"type": "array", "items": {"anyOf": [ITSELF, {"type": "null"}, {"not": ITSELF}]}},
        {"allOf": [{"anyOf": [{"items": ITSELF}]}], "unevaluatedItems": {"type": "null"}},
        {"contains": ITSELF, "items": {"if": {"type": "array"}, "then": ITSELF}, "type": "array"},
    ],
)
@pytest.mark.parametrize("levels", [0, 1, 2, 5])
def test_the_engine_does_no_more_than_was_counted(schema: dict[str, Any], levels: int) -> None:
    value: Any = 1
    for _ in range(levels):
        value = [value, {"a": value}]
    schema = counting(schema)
    validator = validator_for(schema, keywords={"counted": _Counter})
    work = Costs(schema).of(value)
    _Counter.visits = 0
    validator.is_valid(value)
    assert _Counter.visits <= work.steps
    _Counter.visits = 0
    assert len(list(validator.iter_errors(value))) <= work.errors
    assert 0 < _Counter.visits <= work.steps_to_tell
