"""Taking secret values out of what a tool server says."""

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

MASK = "[secret]"
MIN_LENGTH = 4
"""Shorter values are left alone: masking every "1" would ruin the text and hide nothing."""


class Redactor:
    """Replaces secret values by a mask, also where they stand escaped in JSON or in a URL.

    A secret of several lines is also masked line by line. Other encodings (base64, a hash) and
    parts of a value are not recognised.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        plain = {part for secret in secrets for part in (secret, *secret.splitlines())}
        parts = {
            form
            for part in plain
            if len(part.strip()) >= MIN_LENGTH
            for form in (part, json.dumps(part)[1:-1], quote(part, safe=""))
        }
        self.longest = max(map(len, parts), default=0)
        """Characters of the longest value looked for: cut text later than this much before it."""
        ordered = sorted(parts, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, value: str) -> str:
        """``value`` without the secrets."""
        return self._pattern.sub(MASK, value) if self._pattern else value

    def json(self, value: Any) -> Any:
        """A JSON value whose strings (keys too) are without the secrets."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.json(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.json(item) for item in value]
        return value
