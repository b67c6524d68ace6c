"""What PostgreSQL can store of what people and programs send.

It keeps no NUL and no half of a surrogate pair in a text, and in JSON no endless number. Services
refuse these where texts and values come in, so that every door names the field.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from station.core.errors import InvalidInput

DEEPEST = 100
"""How deep objects and lists may be nested."""
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def is_storable(text: str) -> bool:
    """Whether a text can be stored as it is."""
    return _UNSTORABLE.search(text) is None


def printable(text: str) -> str:
    """``text`` without what cannot be stored, and so neither be quoted in an answer."""
    return _UNSTORABLE.sub(_REPLACEMENT, text)


def check_text(field: str, text: str) -> None:
    """Raise :class:`InvalidInput` unless the text can be stored as it is."""
    if not is_storable(text):
        raise InvalidInput(
            field,
            "contains a NUL or half a surrogate pair, which cannot be stored",
            fix="Remove it.",
        )


def check_json(field: str, value: Any, *, texts: bool = True) -> None:
    """Raise :class:`InvalidInput` unless the JSON value can be stored as it is.

    ``texts`` false: somebody else cleans the texts in it.
    """
    if _too_deep(value):
        raise InvalidInput(field, f"is nested more than {DEEPEST} levels deep")
    where = _unstorable_at(value, texts=texts)
    if where is not None:
        raise InvalidInput(
            field,
            f"holds at {printable(where)[:200] or 'its top'!r} what cannot be stored",
            fix="Remove NUL characters, halves of surrogate pairs and endless numbers.",
        )


def refused() -> InvalidInput:
    """What the database's own refusal of a value means to a person: the net below the checks."""
    return InvalidInput(
        "input",
        "holds what the database cannot store or look for: a number out of range, a NUL "
        "character, or bytes that are no text",
    )


def _too_deep(value: Any) -> bool:
    """Found out without recursion."""
    layer = [value]
    for _ in range(DEEPEST + 1):
        layer = [inner for outer in layer for inner in _inner(outer)]
    return bool(layer)


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _unstorable_at(value: Any, *, texts: bool, path: str = "") -> str | None:
    """The path of the first thing in a JSON value that cannot be stored."""
    match value:
        case str():
            return None if not texts or is_storable(value) else path
        case float():
            return None if math.isfinite(value) else path
        case Mapping():
            if texts and not all(is_storable(str(key)) for key in value):
                return path
            inner = [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
        case list() | tuple():
            inner = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
        case _:
            return None
    found = (_unstorable_at(item, texts=texts, path=where) for where, item in inner)
    return next((where for where in found if where is not None), None)
