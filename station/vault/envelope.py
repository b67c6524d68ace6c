"""Envelope encryption of small secrets. Pure Python, no Django.

Every secret has a data key of its own (AES-256-GCM), which is wrapped by a key of the ring
(AES-256-GCM again). Both layers bind the same *context* (where the value lives) as associated
data, so that a ciphertext copied to another row, field or environment does not open.

Layout, version 1 (bytes)::

    1 | key id (8) | wrap nonce (12) | wrapped data key (32 + 16) | nonce (12) | ciphertext + tag

The key id is the first 8 bytes of SHA-256 over ``"station key id" || key``: it tells which key of
the ring opens the value and says nothing about the key.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from station.core.errors import StationError

_VERSION = b"\x01"
_KEY_ID = slice(1, 9)
_WRAP_NONCE = slice(9, 21)
_WRAPPED = slice(21, 69)
_NONCE = slice(69, 81)
_BODY = 81
_TAG = 16


class CannotDecrypt(StationError):
    """A stored secret does not open: its key is not in the ring, or it was changed or moved."""

    code = "cannot_decrypt"


def key_id(key: bytes) -> bytes:
    """The 8-byte name of a 32-byte key."""
    return hashlib.sha256(b"station key id" + key).digest()[:8]


@dataclass(frozen=True)
class KeyRing:
    """The keys that wrap data keys: the first one wraps, all of them unwrap."""

    keys: Sequence[bytes]

    def __post_init__(self) -> None:
        if not self.keys or any(len(key) != 32 for key in self.keys):
            raise ValueError("a key ring holds at least one key, each of exactly 32 bytes")

    @property
    def primary_id(self) -> bytes:
        return key_id(self.keys[0])

    def find(self, wanted: bytes) -> bytes:
        """The key of that id. Raises :class:`CannotDecrypt`."""
        for key in self.keys:
            if key_id(key) == wanted:
                return key
        raise CannotDecrypt(
            f"The encryption key {wanted.hex()} is not in the ring.",
            fix="Put the former key under security.previous_encryption_keys.",
        )


def seal(ring: KeyRing, plaintext: str, context: Mapping[str, str]) -> bytes:
    """Encrypt ``plaintext`` (UTF-8) for exactly this ``context``."""
    bound = _associated(context)
    data_key, wrap_nonce, nonce = os.urandom(32), os.urandom(12), os.urandom(12)
    wrapped = AESGCM(ring.keys[0]).encrypt(wrap_nonce, data_key, b"wrap" + bound)
    body = AESGCM(data_key).encrypt(nonce, plaintext.encode(), b"body" + bound)
    return b"".join((_VERSION, ring.primary_id, wrap_nonce, wrapped, nonce, body))


def unseal(ring: KeyRing, sealed: bytes, context: Mapping[str, str]) -> str:
    """The plaintext of :func:`seal`. Raises :class:`CannotDecrypt`, which never quotes a value."""
    if len(sealed) < _BODY + _TAG or sealed[:1] != _VERSION:
        raise CannotDecrypt("A stored secret is not in a format this Station knows.")
    bound = _associated(context)
    key = ring.find(sealed[_KEY_ID])
    try:
        data_key = AESGCM(key).decrypt(sealed[_WRAP_NONCE], sealed[_WRAPPED], b"wrap" + bound)
        return AESGCM(data_key).decrypt(sealed[_NONCE], sealed[_BODY:], b"body" + bound).decode()
    except InvalidTag:
        raise CannotDecrypt from None


def _associated(context: Mapping[str, str]) -> bytes:
    """The context as unambiguous bytes: each part is preceded by its length."""
    parts = [part.encode() for item in sorted(context.items()) for part in item]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
