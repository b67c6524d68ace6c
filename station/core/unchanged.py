"""What a change says of a field that it leaves alone, where ``None`` is a value of its own."""

from enum import Enum
from typing import Final


class Unchanged(Enum):
    """Has one value, which mypy can tell from the field's own type."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED
