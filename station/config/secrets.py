"""Values that must not be seen: secrets, URLs with passwords, and the encryption key."""

import base64
import binascii
import re

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import Secret

from station.config.problems import Refused

MASK = "********"
KEY_BYTES = 32

_HEX_KEY = re.compile(r"[0-9a-fA-F]{64}")
_AUTHORITY = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<authority>[^/?#]*)(?P<rest>.*)")
_QUERY_PASSWORD = re.compile(r"([?&][a-z_]*password=)[^&#]*", re.IGNORECASE)


class SecretText(Secret[str]):
    """A text whose ``repr``, ``str`` and JSON are a mask; :meth:`get_secret_value` tells it."""

    def _display(self) -> str:
        return MASK


class SecretUrl(Secret[str]):
    """A URL that may hold a password; ``repr``, ``str`` and JSON mask it and keep the host."""

    def _display(self) -> str:
        return mask_url(self.get_secret_value())


def mask_url(url: str) -> str:
    """``url`` with every password replaced by a mask: in the user part and in the query.

    What does not look like a URL is masked whole.
    """
    match = _AUTHORITY.fullmatch(url)
    if not match:
        return MASK
    login, at, host = match["authority"].rpartition("@")
    user, colon, _ = login.partition(":")
    rest = _QUERY_PASSWORD.sub(rf"\1{MASK}", match["rest"])
    return f"{match['scheme']}{user}{colon}{MASK if colon else ''}{at}{host}{rest}"


def decode_key(text: str) -> bytes:
    """The 32 bytes of an encryption key in hex, else in base64 (standard or URL-safe).

    Hex is tried first: 64 hexadecimal digits are valid base64 too, of 48 other bytes.

    Raises:
        Refused: it is neither, or not of 32 bytes.
    """
    fix = "Make one with: openssl rand -hex 32"
    text = text.strip()
    if _HEX_KEY.fullmatch(text):
        return bytes.fromhex(text)
    unpadded = text.rstrip("=")
    padded = unpadded + "=" * (-len(unpadded) % 4)
    if not {"+", "/"} & set(text):  # one alphabet or the other, not a mixture
        padded = padded.translate({ord("-"): "+", ord("_"): "/"})
    try:
        key = base64.b64decode(padded, validate=True)
    except (binascii.Error, ValueError):
        key = None
    if key is None:
        raise Refused("is neither hexadecimal nor base64", fix=fix)
    if len(key) != KEY_BYTES:
        raise Refused(f"decodes to {len(key)} bytes; it must be exactly {KEY_BYTES}", fix=fix)
    return key


def derive_key(key: bytes, label: str) -> bytes:
    """32 bytes for one purpose: HKDF-SHA256 (RFC 5869), no salt, info ``station/<label>``."""
    info = f"station/{label}".encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)
