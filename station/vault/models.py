"""The abstract model of rows that carry sealed fields."""

import functools
import uuid
from typing import Any

from django.db import models

from station.config import current
from station.vault.envelope import KeyRing, seal, unseal


@functools.cache
def ring() -> KeyRing:
    """The configured key ring of this process."""
    security = current().security
    return KeyRing([security.key_bytes, *security.previous_key_bytes])


class SealedField(models.BinaryField[bytes, bytes]):
    """A column that holds an envelope; written and read through :class:`Sealing` only."""

    def __init__(self, *, default: bytes = b"", blank: bool = True, **options: Any) -> None:
        super().__init__(default=default, blank=blank, **options)


class Sealing(models.Model):
    """Adds ``seal`` and ``unseal`` for the :class:`SealedField` columns of a row.

    The row's ``uid`` exists before the row is stored, so that the envelope can be bound to it.
    """

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)

    class Meta:
        abstract = True

    def seal(self, field: str, plaintext: str) -> None:
        """Encrypt into ``field``; the caller saves the row."""
        setattr(self, field, seal(ring(), plaintext, self._context(field)))

    def unseal(self, field: str) -> str:
        """Decrypt ``field``. Raises :class:`station.vault.envelope.CannotDecrypt`."""
        return unseal(ring(), bytes(getattr(self, field)), self._context(field))

    def _context(self, field: str) -> dict[str, str]:
        return {
            "table": self._meta.db_table,
            "row": str(self.uid),
            "field": field,
            "environment": str(getattr(self, "environment_id", "")),
        }
