"""The shapes of request bodies and queries: strict about types and names, silent about meaning.

A shape is a serializer whose fields take JSON values of exactly their type. What it does not know
it refuses, naming the nearest field it does know. What a value *means* is the services' business.

A problem may carry its remedy after a line break: ``"problem\\nfix"``.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.http import QueryDict
from rest_framework import serializers

from station.accounts.api.fields import Count, Cursor, Reference
from station.core.errors import InvalidInput
from station.core.storable import printable

_LONGEST_FIELD = 200


class InvalidRequest(InvalidInput):
    """The request is not valid."""

    def __init__(self, problems: Sequence[tuple[str, str, str]]) -> None:
        """``problems`` are (field, problem, fix); there is at least one."""
        field, problem, fix = problems[0]
        super().__init__(field, problem, fix=fix)
        self._problems = problems
        if len(problems) > 1:
            self.message += f" (and {len(problems) - 1} more)"

    def details(self) -> dict[str, Any]:
        """Every bad field."""
        return {
            "errors": [
                {"field": field, "problem": problem, "fix": fix}
                for field, problem, fix in self._problems
            ]
        }


class Shape(serializers.Serializer[Any]):
    """The base of request bodies and of queries."""

    default_error_messages = {"invalid": "must be a JSON object"}

    def to_internal_value(self, data: Any) -> Any:
        """The known fields. Raises ``ValidationError`` for unknown ones too, at every depth."""
        if not isinstance(data, Mapping):
            raise serializers.ValidationError(self.error_messages["invalid"])
        problems: dict[str, Any] = {
            name: [self._unknown(name)] for name in data.keys() - self.fields
        }
        try:
            values = super().to_internal_value(data)
        except serializers.ValidationError as error:
            raise serializers.ValidationError({**problems, **error.detail}) from None  # type: ignore[dict-item]  # a serializer's details are a dict
        if problems:
            raise serializers.ValidationError(problems)
        return values

    def _unknown(self, name: str) -> str:
        if near := difflib.get_close_matches(name, self.fields, n=1):
            return f"is not known here\nDid you mean {near[0]!r}?"
        known = ", ".join(self.fields) or "none"
        return f"is not known here\nKnown are: {known}."


def read(shape: type[Shape], given: Any) -> dict[str, Any]:
    """The values that ``given``, a parsed body, holds of ``shape``.

    Raises:
        InvalidRequest: naming every field that is unknown, missing or of a wrong type.
    """
    if not isinstance(given, Mapping):
        raise InvalidRequest([("body", "must be a JSON object", "")])
    parsed = shape(data=given)
    if not parsed.is_valid():
        raise InvalidRequest(list(_flat(parsed.errors)))
    return dict(parsed.validated_data)


def read_query(shape: type[Shape], given: QueryDict) -> dict[str, Any]:
    """:func:`read` of a query string; a parameter given twice is refused."""
    for name, values in given.lists():
        if len(values) > 1:
            raise InvalidRequest([(name, "is given more than once", "")])
    return read(shape, given.dict())


def _flat(problems: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    if isinstance(problems, Mapping):
        for name, inner in problems.items():
            step = f"[{name}]" if isinstance(name, int) else f".{name}" if path else str(name)
            yield from _flat(inner, path if name == "non_field_errors" else path + step)
    elif isinstance(problems, list):
        for index, inner in enumerate(problems):
            nested = isinstance(inner, Mapping | list)
            yield from _flat(inner, f"{path}[{index}]" if nested else path)
    else:
        problem, _, fix = str(problems).partition("\n")
        if getattr(problems, "code", "") == "required":
            problem = "is required"
        yield printable(path or "body")[:_LONGEST_FIELD], problem, fix


class ListQuery(Shape):
    """What every list takes."""

    cursor = Cursor(required=False, help_text="From `next` or `previous` of an earlier answer.")
    limit = Count(required=False, at_least=1, at_most=200, help_text="Items a page; 50 if omitted.")


class Nothing(Shape):
    """A query that takes no parameters, or a body without members."""


class InEnvironment(Shape):
    """Which environment the name in the path is meant in."""

    environment = Reference(
        required=False, help_text="Name or id, when several environments know the name."
    )
