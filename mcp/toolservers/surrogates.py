"""JSON that holds halves of characters, which some servers write and the SDK refuses to read.

JavaScript cuts a text in the middle of an emoji without a thought, and Python keeps the bytes of a
file's name that are no UTF-8 in this way. Without help, the whole answer would be lost for it.
"""

import re

_HALF = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|[c-fC-F][0-9a-fA-F]{2}(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))"
)
_PIECE = 1024


def whole_characters(message: bytes) -> bytes:
    """The JSON text with each lone surrogate escape replaced by that of U+FFFD."""
    return _HALF.sub(_replaced, message)


def _replaced(half: re.Match[bytes]) -> bytes:
    text, start = half.string, half.start()
    piece, backslashes = b"", 0
    while not piece.strip(b"\\") and backslashes < start:
        end = start - backslashes
        piece = text[max(end - _PIECE, 0) : end]
        backslashes += len(piece) - len(piece.rstrip(b"\\"))
    # After an odd number of them, the backslash is itself escaped.
    return half[0] if backslashes % 2 else rb"\ufffd"
