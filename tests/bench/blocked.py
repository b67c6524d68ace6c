"""Claims where caps bind: whoever stands at the head of a long line cannot start."""

from django.db import connection

from agents import changes
from runs import transitions
from runs.models import Run
from runs.states import Status
from tests import factories
from tests.bench.claiming import claimed, timed
from tests.bench.filling import fill
from tests.bench.stage import percentile

QUEUED = 50_000
"""Of each of the two agents."""
KEYS, BUSY_KEYS = 1_000, 500
CLAIMS = 200
FIRST = 10
"""A priority above all others."""


def measure() -> dict[str, float]:
    """Claim p50 and p99, in ms, in one environment with 100,000 queued runs.

    One agent is at its cap, and its 50,000 runs are first in line. The other one has 50,000 runs of
    1,000 keys, each capped at 1, and 500 of them are running.
    """
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE agent_runs CASCADE")
    full = changes.update(factories.OPERATOR, factories.agent(), max_running=1)
    keyed = changes.update(
        factories.OPERATOR,
        factories.agent(full.environment),
        concurrency_key="key",
        max_running_per_key=1,
    )
    fill([full], QUEUED + 1, lowest=FIRST)
    fill([keyed], QUEUED + BUSY_KEYS, keys=KEYS)
    first = claimed()
    assert Run.objects.get(pk=first.run_id).agent_id == full.pk
    for _ in range(BUSY_KEYS):
        claimed()
    running = Run.objects.filter(agent=keyed, status="running")
    assert running.values("concurrency_key").distinct().count() == running.count() == BUSY_KEYS
    assert Run.objects.filter(status="queued").count() == 2 * QUEUED
    claims = []
    for _ in range(CLAIMS):
        took, moved = timed(claimed)
        claims.append(took)
        assert transitions.finish(moved.run_id, moved.fence, Status.SUCCEEDED)
    ended = Run.objects.filter(status="succeeded")
    assert set(ended.values_list("agent_id", flat=True)) == {keyed.pk}
    return {"claim_p50_ms": percentile(claims, 0.5), "claim_p99_ms": percentile(claims, 0.99)}
