"""The retry policy of an agent: which failures of a run may pass, and when it is tried again."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from station.config.quantities import format_duration, parse_duration
from station.core.errors import InvalidInput

RETRYABLE = ("model_unavailable", "model_rate_limited", "model_malformed", "tools_unavailable")
"""The codes of failures that may pass by themselves. What raises them is above this layer."""
MOST_RETRIES = 20
LONGEST_BACKOFF = 3600.0
LONGEST_DELAY = 24 * 3600.0
_KEYS = ("on", "at_most", "backoff", "longest")
_AT_MOST, _BACKOFF, _LONGEST = 3, 10.0, 300.0


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """``on`` holds error codes of :data:`RETRYABLE`; the times are in seconds."""

    on: tuple[str, ...]
    at_most: int
    backoff: float
    longest: float

    def delay(self, retries: int) -> float:
        """How long a run waits in the queue that was retried ``retries`` times before."""
        return min(self.longest, self.backoff * 2.0**retries)

    def values(self) -> dict[str, Any]:
        """The policy as JSON, every member written out."""
        return asdict(self) | {"on": list(self.on)}

    def document(self) -> dict[str, Any]:
        """The policy as people write it: durations with their unit."""
        times = {name: format_duration(getattr(self, name)) for name in ("backoff", "longest")}
        return self.values() | times


def parse(where: str, value: object) -> RetryPolicy | None:
    """The policy that a JSON value says; ``None``, or an empty object, is none.

    Durations are seconds, or texts like ``10s``. ``longest`` is 300 s if omitted, or the backoff
    where that is more.

    Raises:
        InvalidInput: naming the member below ``where`` that cannot work.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidInput(where, "must be an object", fix='Write it like {"on": ["…"]}.')
    for key in value:
        if key not in _KEYS:
            near = get_close_matches(str(key), _KEYS, n=1)
            fix = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(_KEYS)}."
            raise InvalidInput(f"{where}.{key}", "is not known", fix=fix)
    if not value:
        return None
    backoff = _BACKOFF
    if "backoff" in value:
        backoff = _seconds(f"{where}.backoff", value["backoff"])
        if not 0 < backoff <= LONGEST_BACKOFF:
            raise InvalidInput(f"{where}.backoff", "must be from 1 ms to 1 h")
    longest = max(_LONGEST, backoff)
    if "longest" in value:
        longest = _seconds(f"{where}.longest", value["longest"])
        if not backoff <= longest <= LONGEST_DELAY:
            shortest = format_duration(backoff)
            raise InvalidInput(f"{where}.longest", f"must be from {shortest}, the backoff, to 24 h")
    return RetryPolicy(
        on=_codes(f"{where}.on", value.get("on")),
        at_most=_count(f"{where}.at_most", value.get("at_most", _AT_MOST)),
        backoff=backoff,
        longest=longest,
    )


def stored(values: Mapping[str, Any] | None) -> RetryPolicy | None:
    """The policy of a stored version, which was checked and written out when it was stored."""
    if values is None:
        return None
    return RetryPolicy(
        on=tuple(values["on"]),
        at_most=values["at_most"],
        backoff=values["backoff"],
        longest=values["longest"],
    )


def _codes(where: str, value: object) -> tuple[str, ...]:
    known = f"Use one or more of: {', '.join(RETRYABLE)}."
    if value is None:
        raise InvalidInput(where, "is required", fix=known)
    if not isinstance(value, list | tuple) or not value:
        raise InvalidInput(where, "must be a list of error codes, not empty", fix=known)
    for index, code in enumerate(value):
        if code not in RETRYABLE:
            problem = f"{code!r} is no failure that may pass when a run goes on"
            raise InvalidInput(f"{where}[{index}]", problem, fix=known)
    return tuple(dict.fromkeys(value))


def _count(where: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_RETRIES:
        raise InvalidInput(where, f"must be a whole number from 1 to {MOST_RETRIES}")
    return value


def _seconds(where: str, value: object) -> float:
    """Seconds, in whole milliseconds."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise ValueError
            return round(float(value), 3)
        return parse_duration(value)
    except (ValueError, OverflowError):
        raise InvalidInput(
            where, f"{value!r} is no duration", fix="Write it like 10s, or as seconds: 10."
        ) from None
