"""JSON as RFC 8259 has it and as every later reader takes it: what Python adds is refused."""

import json
import math
from collections.abc import Iterable
from typing import Any

DEEPEST = 200
"""How deep objects and arrays may be nested."""


def loads(text: str) -> Any:
    """The value that ``text`` stands for.

    Raises:
        ValueError: it is no JSON, holds ``NaN``, ``Infinity`` or a number beyond a float, or is
            nested deeper than :data:`DEEPEST`. The message says which.
    """
    try:
        value = json.loads(text, parse_constant=_refused, parse_float=_finite)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if text.count("[") + text.count("{") > DEEPEST:
        _check_depth(value)
    return value


_TOO_DEEP = f"it is nested deeper than {DEEPEST} levels"


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:20]} is too large")
    return number


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _members(outer)]
    if any(isinstance(each, dict | list) for each in level):
        raise ValueError(_TOO_DEEP)


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
