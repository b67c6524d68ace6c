"""JSON Schema with bounds: no schema can hold up the process, whatever is held against it.

Schemas come from tool servers and from people. ``re`` and the pure Python validators would give a
hostile or unlucky one the whole process: backtracking holds the interpreter for hours. The engine
here matches in linear time where it can, counts its steps where it cannot, and fetches nothing.
It cannot be stopped, though, so what it may have to do at most is counted before it begins.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jsonschema_rs import FancyRegexOptions, ValidationError, validator_for
from jsonschema_rs import ValidationErrorKind as What

from station.core.schema_cost import Costs, too_large

_MOST_BACKTRACKS = 20_000
"""In one match of a pattern that cannot be matched in linear time."""
_LARGEST_PATTERN = 1_000_000
"""Bytes, compiled."""
_MOST_STEPS = 3_000_000
_MOST_ERRORS = 30_000
"""With the steps, a few tenths of a second; see :class:`station.core.schema_cost.Work`."""
_LONGEST = 300
_REMEMBERED, _SMALL = 64, 4_000
"""Most schemas that are kept, and their longest text: together they stay within some 10 MiB."""
_GIVEN_UP = (What.BacktrackLimitExceeded, What.RegexEngineFailure)


class InvalidSchema(ValueError):
    """This is no JSON Schema. ``path`` says where, as ``.properties.a``; "" is the whole."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} {problem}".strip())
        self.path, self.problem = path, problem


@dataclass(frozen=True, kw_only=True)
class Violation:
    """Where a value does not fit, and how."""

    path: tuple[str | int, ...]
    message: str

    def __str__(self) -> str:
        return f"{''.join(f'[{step!r}]' for step in self.path)} {self.message}".strip()


_UNTOLD = Violation(path=(), message="does not fit the schema, in too many ways to tell")


class Schema:
    """A schema that values are held against; of the draft its ``$schema`` names, else 2020-12."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Compile ``schema``.

        Raises:
            InvalidSchema: it is none, it refers to another document, or no value at all could be
                held against it within bounds.
        """
        if problem := too_large(schema):
            raise InvalidSchema("", f"is more than can be checked: {problem}")
        try:
            self._validator = validator_for(
                dict(schema),
                offline=True,
                validate_formats=False,
                pattern_options=FancyRegexOptions(
                    backtrack_limit=_MOST_BACKTRACKS, size_limit=_LARGEST_PATTERN
                ),
            )
        except ValidationError as error:
            path = "".join(f".{step}" for step in error.instance_path)
            raise InvalidSchema(path, _shortened(error.message)) from None
        except ValueError as error:  # nested too deep, or a text that is no Unicode
            raise InvalidSchema("", _shortened(str(error))) from None
        self._costs = Costs(schema)
        if self._costs.of(None).steps > _MOST_STEPS:
            raise InvalidSchema(
                "", "is more than can be checked: its subschemas apply each other too often"
            )

    def violation(self, value: Any) -> Violation | None:
        """What in ``value`` does not fit, the most telling one; ``None`` when it fits.

        ``value`` is JSON, nested no deeper than :mod:`station.core.strict_json` admits. What the
        engine gives up on, such as a pattern that takes too many steps, counts as fitting, and so
        does a value that might take too long. Where there may be too much to tell, it is the first
        thing that does not fit, or only that something does not.
        """
        work = self._costs.of(value)
        if work.steps > _MOST_STEPS:
            return None
        try:
            if self._validator.is_valid(value):
                return None
            if work.errors > _MOST_ERRORS or work.steps_to_tell > _MOST_STEPS:
                return self._first(value)
            errors = [
                e for e in self._validator.iter_errors(value) if not isinstance(e.kind, _GIVEN_UP)
            ]
        except ValueError:
            return None
        return _of(min(errors, key=_remoteness)) if errors else None

    def _first(self, value: Any) -> Violation | None:
        """Of a value that is known not to fit."""
        if self._costs.alternatives:  # the engine tells of all of them, however many there are
            return None if self._costs.patterns else _UNTOLD
        try:
            self._validator.validate(value)
        except ValidationError as error:
            return None if isinstance(error.kind, _GIVEN_UP) else _of(error)
        return None


def schema_of(schema: Mapping[str, Any]) -> Schema:
    """:class:`Schema` of a small one that was asked for of late, or a new one.

    Raises:
        InvalidSchema: see :class:`Schema`.
    """
    text = json.dumps(schema)
    return _remembered(text) if len(text) <= _SMALL else Schema(schema)


@lru_cache(_REMEMBERED)
def _remembered(text: str) -> Schema:
    return Schema(json.loads(text))


def _remoteness(error: ValidationError) -> tuple[int, bool]:
    """What is wrong near the top says most, and there, what is missing."""
    return len(error.instance_path), not isinstance(error.kind, What.Required)


def _of(error: ValidationError) -> Violation:
    """The error itself; of alternatives that all failed, that of the one which came furthest."""
    if isinstance(error.kind, What.AnyOf | What.OneOfNotValid):
        branches = [min(branch, key=_remoteness) for branch in error.kind.context if branch]
        inner = max(branches, key=lambda each: len(each.instance_path), default=error)
        if len(inner.instance_path) > len(error.instance_path):
            return _of(inner)
    return Violation(path=tuple(error.instance_path), message=_shortened(error.message))


def _shortened(message: str) -> str:
    """The message without the middle of what it quotes: what is wrong stands at its end."""
    if len(message) <= _LONGEST:
        return message
    half = _LONGEST // 2 - 2
    return f"{message[:half]} … {message[-half:]}"
