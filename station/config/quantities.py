"""Durations (``30s``, ``1h30m``), sizes (``1MiB``) and whole numbers, as people write them.

Numbers without a unit are refused: whoever writes ``timeout: 5`` means seconds or minutes,
and a wrong guess is found out in production.
"""

import re
from decimal import Decimal

from station.config.problems import Refused

_AMOUNT = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION = re.compile(
    "".join(rf"(?:(?P<{unit}>{_AMOUNT}){unit})?" for unit in _MILLISECONDS), re.ASCII
)
_BYTES = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
_SIZE = re.compile(r"(?P<count>[0-9]{1,15})\s*(?P<unit>GiB|MiB|KiB|B)?", re.ASCII)
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}\s*", re.ASCII)


def parse_duration(text: object) -> float:
    """Seconds, from units in falling order: ``d h m s ms``, each at most once.

    Durations are whole milliseconds. Raises :class:`Refused` (a ``ValueError``).
    """
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    parts = {unit: amount for unit, amount in match.groupdict().items() if amount} if match else {}
    if not parts:
        raise Refused("must be a duration with its unit", fix="Write it like 250ms, 30s, 5m, 24h.")
    total = sum(Decimal(amount) * _MILLISECONDS[unit] for unit, amount in parts.items())
    if total != int(total):
        raise Refused("is finer than a millisecond", fix="Write it in whole milliseconds.")
    return int(total) / 1000


def format_duration(seconds: float) -> str:
    """The shortest text that :func:`parse_duration` reads back; units above hours are not used."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    unit = next(u for u in ("h", "m", "s", "ms") if milliseconds % _MILLISECONDS[u] == 0)
    return f"{milliseconds // _MILLISECONDS[unit]}{unit}"


def parse_size(value: object) -> int:
    """Bytes, from a number of bytes or a text in binary units. Raises :class:`Refused`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match:
        raise Refused("must be a size", fix="Write it like 65536, 512KiB, 1MiB.")
    return int(match["count"]) * _BYTES[match["unit"] or "B"]


def format_size(count: int) -> str:
    """The shortest text that :func:`parse_size` reads back."""
    unit = next((u for u, size in _BYTES.items() if count and count % size == 0), "B")
    return f"{count // _BYTES[unit]}{unit}"


def parse_whole_number(value: object) -> int:
    """An integer, or its decimal text; no truth values, no fractions. Raises :class:`Refused`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    raise Refused("must be a whole number")
