"""The format of API keys and SSH fingerprints. Pure Python, no Django.

An API key is ``stn_<12 id>_<43 secret><6 checksum>``: id and secret are random, in base 62; the
checksum is CRC-32 of what precedes it, in base 62, so that typing errors and truncated pastes are
told apart from wrong keys without a look-up, and secret scanners can verify a find off-line.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from station.core.errors import InvalidInput

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_FORMAT = re.compile(r"stn_([0-9A-Za-z]{12})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})")
_SMALLEST_RSA = 3072


@dataclass(frozen=True, kw_only=True)
class RawKey:
    """A whole key, known only while it is made or presented."""

    key_id: str
    secret: str

    def __str__(self) -> str:
        body = f"stn_{self.key_id}_{self.secret}"
        return body + _checksum(body)

    def __repr__(self) -> str:
        return f"<RawKey stn_{self.key_id}_…>"

    def digest(self, pepper: bytes) -> bytes:
        """What is stored: HMAC-SHA256 of the key under the installation's pepper."""
        return hmac.digest(pepper, str(self).encode(), "sha256")


def generate() -> RawKey:
    """A new key with 256 bits in its secret."""
    return RawKey(key_id=_random(12), secret=_random(43))


def parse(presented: str) -> RawKey | None:
    """The key in ``presented``, or ``None`` when its form or checksum is wrong."""
    match = _FORMAT.fullmatch(presented)
    if match is None or _checksum(presented[:-6]) != match[3]:
        return None
    return RawKey(key_id=match[1], secret=match[2])


def normalise_ssh_key(line: str) -> tuple[str, str]:
    """``(public key without options or comment, SHA256 fingerprint)`` of an OpenSSH line.

    Raises:
        InvalidInput: not a key, or a kind or size that is no longer safe.
    """
    fix = "Paste one line of an Ed25519, ECDSA or RSA (3072 bits or more) .pub file."
    words = line.split()
    try:
        kind, blob = words[0], words[1]
        key = load_ssh_public_key(f"{kind} {blob}".encode())
        raw = base64.b64decode(blob, validate=True)
    except (ValueError, IndexError, binascii.Error, UnsupportedAlgorithm):
        raise InvalidInput("public_key", "is not an OpenSSH public key", fix=fix) from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _SMALLEST_RSA:
            raise InvalidInput("public_key", f"RSA of {key.key_size} bits is too short", fix=fix)
    elif not isinstance(key, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey):
        raise InvalidInput("public_key", f"{kind} keys are not accepted", fix=fix)
    return f"{kind} {blob}", fingerprint(raw)


def fingerprint(raw: bytes) -> str:
    """``SHA256:…`` as OpenSSH prints it, of a key in wire format."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(body: str) -> str:
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits = _ALPHABET[digit] + digits
    return digits
