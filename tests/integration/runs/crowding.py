"""Many runs at once, stored without the services: they have no journal yet."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from agents.models import Agent
from runs.models import Run


def crowd(agent: Agent, count: int, **columns: Any) -> list[int]:
    """The ids of ``count`` new runs, queued unless ``columns`` say otherwise."""
    assert agent.current_version is not None
    rows = [
        Run(
            environment=agent.environment,
            agent=agent,
            version=agent.current_version,
            input="x",
            timeout=300,
            submitted_by="tests",
            submitter_kind="system",
            submitter_id="tests",
            **columns,
        )
        for _ in range(count)
    ]
    return [row.pk for row in Run.objects.bulk_create(rows)]


def fallen_silent(agent: Agent, *, seconds: float = 60, **columns: Any) -> int:
    """A running run whose lease ran out that many seconds ago."""
    now = timezone.now()
    (run_id,) = crowd(
        agent,
        1,
        status="running",
        worker="w",
        fence=1,
        started_at=now - timedelta(seconds=seconds + 60),
        claimed_at=now - timedelta(seconds=seconds + 60),
        lease_expires_at=now - timedelta(seconds=seconds),
        **columns,
    )
    return run_id
