"""Which runs a caller means: the filters that lists and bulk cancellations take on every door."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import models

from runs.models import Run


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What runs must be to be meant; what is left out does not narrow.

    Doors find the ids behind the names that people give.
    """

    environment_id: int | None = None
    agent_id: int | None = None
    statuses: Sequence[str] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None
    submitted_by: str | None = None
    """The label of who submitted, as runs show it."""

    def narrow(self, rows: models.QuerySet[Run]) -> models.QuerySet[Run]:
        """Those of ``rows`` that are meant."""
        wanted = {
            "environment_id": self.environment_id,
            "agent_id": self.agent_id,
            "status__in": list(self.statuses) or None,
            "created_at__gt": self.created_after,
            "created_at__lt": self.created_before,
            "submitted_by": self.submitted_by,
        }
        return rows.filter(**{name: value for name, value in wanted.items() if value is not None})
