"""The fields that shapes are made of: JSON values of exactly one type, and texts of a query.

A problem may carry its remedy after a line break: ``"problem\\nfix"``.
"""

import base64
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from station.config.quantities import parse_duration
from station.core.errors import InvalidInput
from station.core.storable import check_json, check_text, printable

_SPACE_FOR_PLUS = re.compile(r"(?<=[0-9]) (?=[0-9]{2}:[0-9]{2}$)")
_LARGEST_INTEGER = 2**63 - 1
_TEXT_MESSAGES = {
    "invalid": "must be a text\nPut it in quotes.",
    "blank": "is empty",
    "null": "must be a text, not null\nLeave the field out instead.",
}


@contextmanager
def _told() -> Iterator[None]:
    """Within, what a check refuses becomes the problem of the field at hand."""
    try:
        yield
    except InvalidInput as error:
        raise serializers.ValidationError(f"{error.problem}\n{error.fix}") from None


# --- fields of bodies -----------------------------------------------------------------------


class Text(serializers.CharField):
    """A JSON string, kept as it is; NUL and lone surrogates are refused."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("trim_whitespace", False)
        kwargs["error_messages"] = _TEXT_MESSAGES | kwargs.get("error_messages", {})
        super().__init__(**kwargs)
        self.validators = []

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        with _told():
            check_text("", data)
        return data


class CleanedText(Text):
    """A JSON string for a field whose service replaces what cannot be stored."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(data)


class Whole(serializers.IntegerField):
    """A JSON number without a fraction, of 64 bits at most."""

    default_error_messages = {
        "invalid": "must be a whole number",
        "null": "must be a whole number, not null\nLeave the field out instead.",
    }

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool) or abs(data) > _LARGEST_INTEGER:
            self.fail("invalid")
        return data


class Flag(serializers.BooleanField):
    """``true`` or ``false``."""

    default_error_messages = {"invalid": "must be true or false", "null": "must be true or false"}

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class OneOf(serializers.ChoiceField):
    """One of a few texts."""

    def __init__(self, choices: Sequence[str], **kwargs: Any) -> None:
        known = ", ".join(choices)
        kwargs["error_messages"] = {
            "invalid_choice": f"is not one of the known values\nUse one of: {known}.",
            "null": f"must not be null\nUse one of: {known}.",
        }
        super().__init__(choices=list(choices), **kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or data not in self.choices:
            self.fail("invalid_choice", input=data)
        return data


class Texts(serializers.ListField):
    """A list of strings."""

    child = Text(allow_blank=True)
    default_error_messages = {"not_a_list": "must be a list of texts", "null": "must not be null"}


class TextMap(serializers.DictField):
    """An object whose values are strings."""

    child = Text(allow_blank=True)
    default_error_messages = {
        "not_a_dict": "must be an object whose values are texts",
        "null": "must not be null",
    }

    def to_internal_value(self, data: Any) -> dict[str, str]:
        values: dict[str, str] = super().to_internal_value(data)
        with _told():
            check_text("", "".join(values))
        return values


@extend_schema_field({"type": "object", "additionalProperties": {}})
class AnyObject(serializers.Field[Any, Any, Any, Any]):
    """Any JSON object.

    ``cleaned``: its service replaces what cannot be stored in texts.
    """

    default_error_messages = {
        "not_an_object": "must be a JSON object",
        "null": "must be a JSON object, not null",
    }

    def __init__(self, *, cleaned: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._cleaned = cleaned

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("not_an_object")
        with _told():
            check_json("", data, texts=not self._cleaned)
        return data

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "examples": ["300s", "5m"]},
            {"type": "number", "exclusiveMinimum": 0},
        ]
    }
)
class Seconds(serializers.Field[Any, Any, Any, Any]):
    """A duration: a text with its unit, like ``"300s"`` or ``"5m"``, or a number of seconds."""

    default_error_messages = {
        "invalid": 'must be a duration\nWrite it like "30s", "5m", "24h", or as seconds: 30.',
        "null": "must be a duration, not null\nLeave the field out instead.",
    }

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, int | float) and not isinstance(data, bool):
            try:
                return float(data)
            except OverflowError:
                self.fail("invalid")
        try:
            return parse_duration(data)
        except ValueError:
            self.fail("invalid")

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field({"oneOf": [{"type": "string"}, {"type": "integer"}]})
class Reference(serializers.Field[Any, Any, Any, Any]):
    """A name, or an id as a number or a text; the service finds what it stands for.

    A number of JSON can only be an id, so it stays one.
    """

    default_error_messages = {
        "invalid": "must be a name or an id",
        "null": "must be a name or an id, not null",
    }

    def to_internal_value(self, data: Any) -> int | str:
        if isinstance(data, bool) or not isinstance(data, str | int) or data == "":
            self.fail("invalid")
        if isinstance(data, str):
            with _told():
                check_text("", data)
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class Moment(serializers.DateTimeField):
    """A point in time in ISO 8601; without an offset it is UTC."""

    default_error_messages = {
        "invalid": "is not a point in time\nWrite it like 2026-01-31T12:00:00Z.",
        "date": "is not a point in time\nWrite it like 2026-01-31T12:00:00Z.",
        "overflow": "is not a point in time\nWrite it like 2026-01-31T12:00:00Z.",
        "null": "must not be null",
    }

    def to_internal_value(self, value: Any) -> Any:
        if not isinstance(value, str):
            self.fail("invalid", format="ISO 8601")
        # In a query string an unescaped "+02:00" arrives as " 02:00".
        return super().to_internal_value(_SPACE_FOR_PLUS.sub("+", value))


# --- fields of queries, which are always texts ----------------------------------------------


class Switch(serializers.ChoiceField):
    """``true`` or ``false`` in a query."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs["error_messages"] = {"invalid_choice": "must be true or false"}
        super().__init__(choices=["true", "false"], **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(data) == "true"


class Count(serializers.IntegerField):
    """A whole number in a query, within bounds."""

    def __init__(self, *, at_least: int, at_most: int, **kwargs: Any) -> None:
        problem = f"must be a whole number from {at_least} to {at_most}"
        kwargs["error_messages"] = dict.fromkeys(
            ("invalid", "min_value", "max_value", "max_string_length"), problem
        )
        super().__init__(min_value=at_least, max_value=at_most, **kwargs)


class AnyOf(Text):
    """A comma-separated choice of a few texts."""

    def __init__(self, choices: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._choices = tuple(choices)

    def to_internal_value(self, data: Any) -> Any:
        found = [part.strip() for part in super().to_internal_value(data).split(",")]
        if unknown := [part for part in found if part not in self._choices]:
            raise serializers.ValidationError(
                f"{printable(unknown[0])[:200]!r} is not one of the known values\n"
                f"Use one or more of: {', '.join(self._choices)}."
            )
        return found


class Cursor(Text):
    """A place in a list, opaque to callers: base64 of ``p=…``, ``o=…`` and ``r=1``."""

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        try:
            parts = parse_qs(base64.b64decode(text, validate=True).decode(), strict_parsing=True)
        except ValueError:
            parts = {}
        if not parts or parts.keys() - {"p", "o", "r"}:
            raise serializers.ValidationError(
                "is not one that Station gave out\nBegin without a cursor, then follow `next`."
            )
        return text
