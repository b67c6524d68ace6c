"""How long another server wants us to wait."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = 24 * 3600.0


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds to wait by ``Retry-After`` (seconds or HTTP date, RFC 9110) or ``retry-after-ms``.

    None when absent or unreadable; from 0 to a day.
    """
    values = {name.lower(): value for name, value in headers.items()}
    try:
        seconds = _seconds(values, now or datetime.now(UTC))
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST)


def _seconds(headers: Mapping[str, str], now: datetime) -> float:
    if text := headers.get("retry-after-ms"):
        return float(text) / 1000
    text = headers.get("retry-after", "")
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", text):
        return float(text)
    moment = parsedate_to_datetime(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - now).total_seconds()
