"""Masks secrets in log lines: by the name of the field, by their shape, and by their value."""

import functools
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

from pydantic import Secret
from structlog.typing import EventDict, WrappedLogger

from station.config import Config
from station.config.schema import LEAVES, is_secret

MASK = "********"

_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|secret|credential|authorization|cookie|csrf|(?<![a-z])pwd(?![a-z])"
    r"|api[-_ ]?key|private[-_ ]?key|encryption[-_ ]?key|access[-_ ]?key"
    r"|(?<![a-z])token(?!s)|session[-_ ]?(id|key)|(?<![a-z])otp(?![a-z])",
    re.IGNORECASE,
)
_SHAPES = re.compile(
    r"(?P<station>\bstn_)[A-Za-z0-9_-]{6,}"
    r"|(?P<scheme>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{6,}"
    r"|(?P<user>[a-z][a-z0-9+.-]*://[^\s/?#:@]*:)[^\s/?#]+(?=@)"
    r"|(?P<query>[?&](?:[a-z_-]*(?:password|token|secret|signature|api[-_]?key))=)[^\s&#]+"
    r"|(?P<provider>\b(?:sk|pk|rk|phc|phx|ghp|gho|xox[abp])[-_])[A-Za-z0-9_-]{16,}"
    r"|(?P<pem>-----BEGIN [A-Z ]*PRIVATE KEY-----)[^-]*",
    re.IGNORECASE,
)
_SHORTEST = 8
"""Shorter configured secrets are not looked for: they would mask ordinary words."""
_OURS = frozenset({"timestamp", "level", "logger"})
_DEEPEST = 6
_LONGEST = 16_384


class Redaction:
    """A structlog processor; apply it last before rendering."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """``secrets``: values masked wherever they appear."""
        known = sorted({s for s in secrets if len(s) >= _SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, _logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
        for name, value in event_dict.items():
            if name not in _OURS:
                event_dict[name] = self._field(name, value, 0)
        return event_dict

    def text(self, text: str) -> str:
        """``text`` with what looks like a secret, or is a known one, masked; cut when very long."""
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}… ({len(text) - _LONGEST} characters more)"
        text = _SHAPES.sub(_masked, text)
        return self._known.sub(MASK, text) if self._known else text

    def _field(self, name: object, value: object, depth: int) -> object:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(name, str) and _sounds_secret(name):
            return MASK
        return self._value(value, depth)

    def _value(self, value: object, depth: int) -> object:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, str):
            return self.text(value)
        if depth < _DEEPEST:
            if isinstance(value, Mapping):
                return {
                    self.text(str(key)): self._field(key, inner, depth + 1)
                    for key, inner in value.items()
                }
            if isinstance(value, (list, tuple, set, frozenset)):
                return [self._value(inner, depth + 1) for inner in value]
        return self.text(_shown(value))


@functools.lru_cache(maxsize=1024)
def _sounds_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _masked(match: re.Match[str]) -> str:
    return f"{match[match.lastgroup or 0]}{MASK}"


def _shown(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a log line must not fail over somebody's __str__
        return f"<{type(value).__name__}>"


def configured_secrets(config: Config) -> set[str]:
    """Every secret value in the configuration, and the passwords within its URLs."""
    found: set[str] = set()
    for path in LEAVES:
        if is_secret(path):
            value: object = config
            for name in path.split("."):
                value = getattr(value, name)
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Secret):
                    found |= _within(str(item.get_secret_value()))
    return found


def _within(secret: str) -> set[str]:
    if "://" not in secret:
        return {secret}
    password = urlsplit(secret).password or ""
    return {password, unquote(password)}
