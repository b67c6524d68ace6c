"""Which subschemas of a JSON Schema are applied to a value, and which to its members.

Pure structure: nothing is evaluated. The keywords of all drafts are taken together, and where a
reference may mean several places, all of them: :mod:`station.core.schema_cost` wants no less than
the engine does.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

_ALL = ("allOf", "dependentSchemas", "dependencies", "then", "else")
_ALTERNATIVES = ("anyOf", "oneOf")
_TESTS = ("not", "if")
_NAMED = ("properties", "prefixItems")
_MEMBERS = (
    "patternProperties", "additionalProperties", "unevaluatedProperties", "propertyNames",
    "additionalItems", "unevaluatedItems",
)  # fmt: skip
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_ASSERTIONS = frozenset({
    "type", "const", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "uniqueItems",
    "minProperties", "maxProperties", "contains", "additionalProperties", "additionalItems",
    "unevaluatedProperties", "unevaluatedItems", "anyOf", "oneOf", "not", "propertyNames",
})  # fmt: skip
_LISTING = ("enum", "const", "required", "dependentRequired", "properties", "dependencies", "type")
_LISTS_BY_NAME = ("dependentRequired", "dependencies")
_BY_NAME = ("properties", "patternProperties", "dependentSchemas", "dependencies")
_QUOTED = ("enum", "const", "not")
_TEXT = 100
"""Characters that take as long to quote as the rest of an error."""
_ELSEWHERE = "json-schema.org"
"""Meta-schemas, which the engine has within it."""


@dataclass(kw_only=True, eq=False)
class Node:
    """One subschema, and the ones that are applied with it."""

    steps: int = 1
    """What its own keywords take, in comparisons."""
    errors: float = 1
    """How many its own keywords may find in one value; more where they quote much of the schema."""
    names: bool = False
    """It is about the names of members, and each of its errors quotes the whole object."""
    patterns: list[str] = field(default_factory=list)
    """That a string is held against."""
    key_patterns: list[str] = field(default_factory=list)
    """That each key of an object is held against."""
    unevaluated: bool = False
    """What is left of the value is asked for, so its siblings are asked again what they took."""
    unbounded: bool = False
    """It refers to what is not in the document."""
    together: list["Node"] = field(default_factory=list)
    alternatives: list["Node"] = field(default_factory=list)
    tests: list["Node"] = field(default_factory=list)
    named: list["Node"] = field(default_factory=list)
    """Of these, a member meets one at most: properties, and items by their place."""
    members: list["Node"] = field(default_factory=list)
    """Any member may meet all of these."""
    probes: list["Node"] = field(default_factory=list)
    """Likewise, without an error of their own."""

    def in_place(self) -> Iterator["Node"]:
        yield from self.together
        yield from self.alternatives
        yield from self.tests


def graph(schema: Mapping[str, Any]) -> Node:
    """The node of ``schema``, with all that it reaches."""
    places = _Places(schema)
    nodes: dict[int, Node] = {id(schema): Node()}
    leaf = Node()
    waiting: list[Mapping[str, Any]] = [schema]

    def node_of(each: Any) -> Node:
        if not isinstance(each, dict):
            return leaf
        if id(each) not in nodes:
            nodes[id(each)] = Node()
            waiting.append(each)
        return nodes[id(each)]

    def nodes_of(one: Mapping[str, Any], keywords: Iterable[str]) -> list[Node]:
        return [node_of(each) for keyword in keywords for each in _within(one, keyword)]

    while waiting:
        one = waiting.pop()
        node = nodes[id(one)]
        node.together = nodes_of(one, _ALL)
        for keyword in _REFERENCES:
            if isinstance(reference := one.get(keyword), str):
                found = places.of(keyword, reference)
                node.together += [node_of(place) for place in found]
                node.unbounded |= not found
        node.alternatives = nodes_of(one, _ALTERNATIVES)
        node.tests = nodes_of(one, _TESTS)
        places_named = isinstance(one.get("items"), list)
        node.named = nodes_of(one, [*_NAMED, "items"] if places_named else _NAMED)
        node.members = nodes_of(one, _MEMBERS if places_named else [*_MEMBERS, "items"])
        node.probes = nodes_of(one, ["contains"])
        node.unevaluated = "unevaluatedProperties" in one or "unevaluatedItems" in one
        node.steps += len(_ASSERTIONS & one.keys()) + sum(
            size(one[keyword]) if keyword in ("enum", "const") else _length(one[keyword])
            for keyword in _LISTING
            if keyword in one
        )
        listed = [each for key in _LISTS_BY_NAME for each in _within(one, key)]
        node.steps += sum(map(_length, listed))
        node.errors = len(_ASSERTIONS & one.keys()) + _length(one.get("required"))
        node.errors += sum(map(_length, listed))
        node.errors += sum(places.text(one[key]) for key in _QUOTED if key in one) / _TEXT
        node.names = "propertyNames" in one
        node.patterns = [one["pattern"]] if isinstance(one.get("pattern"), str) else []
        node.key_patterns = [*_mapping(one.get("patternProperties"))]
    return nodes[id(schema)]


def size(value: Any, most: int = 1 << 62) -> int:
    """How many values ``value`` consists of; counted up to about ``most``."""
    count, level = 1, [value]
    while level and count <= most:
        level = [inner for outer in level for inner in _members(outer)]
        count += len(level)
    return count


def _within(one: Mapping[str, Any], keyword: str) -> list[Any]:
    """The subschemas under a keyword that has one, a list of them, or named ones."""
    value = one.get(keyword)
    if isinstance(value, list):
        return value
    if keyword in {*_BY_NAME, *_LISTS_BY_NAME}:
        return [*_mapping(value).values()]
    return [] if value is None else [value]


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _length(value: Any) -> int:
    return len(value) if isinstance(value, dict | list) else 0


class _Places:
    """Where the references of a document may lead."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._documents: list[Any] = [schema]
        self._anchors: dict[str, list[Any]] = {}
        self._text: dict[int, int] = {}
        levels: list[list[Any]] = [[schema]]
        while levels[-1]:
            levels.append([inner for outer in levels[-1] for inner in _members(outer)])
        for each in (each for level in levels for each in level if isinstance(each, dict)):
            self._note(each, inner=each is not schema)
        for each in (each for level in reversed(levels) for each in level):
            if isinstance(each, dict | list):
                keys = sum(map(len, each)) if isinstance(each, dict) else 0
                self._text[id(each)] = 2 + keys + sum(map(self.text, _members(each)))

    def text(self, value: Any) -> int:
        """About how many characters ``value``, a part of the document, has."""
        if isinstance(value, dict | list):
            return self._text[id(value)]
        return len(value) if isinstance(value, str) else 8

    def of(self, keyword: str, reference: str) -> list[Any]:
        """All that it may mean; empty when that is none of this document."""
        address, _, fragment = reference.partition("#")
        if _ELSEWHERE in address:
            return []
        if keyword == "$recursiveRef" or not fragment:
            return self._documents
        if not fragment.startswith("/"):
            return self._anchors.get(unquote(fragment), [])
        steps = [
            unquote(step).replace("~1", "/").replace("~0", "~") for step in fragment[1:].split("/")
        ]
        found = (_at(document, steps) for document in self._documents)
        return [each for each in found if each is not None]

    def _note(self, one: dict[str, Any], *, inner: bool) -> None:
        for keyword in ("$id", "id"):
            if isinstance(name := one.get(keyword), str):
                if inner:
                    self._documents.append(one)
                if "#" in name:
                    self._anchors.setdefault(name.partition("#")[2], []).append(one)
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(name := one.get(keyword), str):
                self._anchors.setdefault(name, []).append(one)


def _at(document: Any, steps: list[str]) -> Any:
    for step in steps:
        if isinstance(document, list) and step.isdecimal() and int(step) < len(document):
            document = document[int(step)]
        elif isinstance(document, dict) and step in document:
            document = document[step]
        else:
            return None
    return document
