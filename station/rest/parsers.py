"""Reading request bodies: JSON, of a bounded size, that PostgreSQL can hold."""

import json
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from station.config import current
from station.core.errors import InputTooLarge


class JsonBody(BaseParser):
    """``application/json`` of at most ``api.max_body`` bytes.

    Raises:
        InputTooLarge: it is larger.
        ParseError: it is not JSON (RFC 8259; ``NaN`` and ``Infinity`` are not), nested too
            deeply, or holds half a surrogate pair, which no database stores.
    """

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        limit = current().api.max_body
        raw = stream.read(limit + 1)
        if len(raw) > limit:
            raise too_large(limit)
        try:
            parsed = json.loads(raw.decode(), parse_constant=_refuse)
            if b"\\ud" in raw.lower():
                json.dumps(parsed, ensure_ascii=False).encode()
        except RecursionError:
            raise ParseError("The body is nested too deeply.") from None
        except UnicodeEncodeError:
            raise ParseError("The body holds half of a surrogate pair.") from None
        except ValueError as error:
            raise ParseError(f"The body is not JSON: {error}") from None
        return parsed


def too_large(limit: int) -> InputTooLarge:
    """The error of a body above ``limit`` bytes."""
    return InputTooLarge(
        "body",
        f"is larger than {limit} bytes",
        fix="Send less, or have the operator raise api.max_body.",
    )


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
