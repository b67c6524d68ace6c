"""Words and numbers for a terminal. Pure Python."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

# What can steer a terminal or turn text around: C0 and C1 controls but newline and tab, DEL, the
# bidirectional overrides and isolates; and lone surrogates, which no terminal can be sent.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SPACES = re.compile(r"\s+")


def printable(text: str) -> str:
    """``text`` without characters that could steer a terminal; newlines and tabs stay."""
    return _UNPRINTABLE.sub("", text)


def one_line(text: str, most: int | None = None) -> str:
    """``text`` in one printable line, cut with an ellipsis to ``most`` characters."""
    line = _SPACES.sub(" ", printable(text)).strip()
    if most is not None and len(line) > most:
        return line[: max(most - 1, 0)] + "…"
    return line


def to_json(value: Any, *, indent: int | None = None) -> str:
    """``value`` as JSON, complete; what could steer a terminal is escaped, not lost."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=_plain)
    return _UNPRINTABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    # json.dumps escaped every C0 control; a newline that is left belongs to the indentation.
    return f"\\u{ord(match[0]):04x}"


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return iso(value)
        case Decimal():
            return f"{value:f}"
        case _:
            return str(value)


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with a ``Z``, as the REST API writes it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def duration(seconds: float) -> str:
    """A length of time in two units at most: ``0.4 s``, ``12 s``, ``3 m 05 s``, ``2 d 4 h``."""
    if seconds < 0.0995:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02} s"
    minutes = whole // 60
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} m"
    return f"{minutes // 1440} d {minutes // 60 % 24} h"


def age(moment: datetime | None, now: Callable[[], datetime] | None = None) -> str:
    """How long ago ``moment`` was, ``-`` for never; a moment to come reads ``in …``."""
    if moment is None:
        return "-"
    passed: timedelta = (now or (lambda: datetime.now(UTC)))() - moment
    seconds = passed.total_seconds()
    if seconds < -1:
        return f"in {duration(-seconds)}"
    return f"{duration(round(max(seconds, 0)))} ago" if seconds >= 1 else "now"


def dollars(amount: Decimal | float | str | None) -> str:
    """An amount of US dollars with at least two and at most six decimals, ``-`` if not known."""
    if amount is None:
        return "-"
    text = f"{Decimal(str(amount)):.6f}".rstrip("0")
    whole, _, decimals = text.partition(".")
    return f"${whole}.{decimals:0<2}"


def count(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
