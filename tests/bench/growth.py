"""(c) Whether claiming, listing and appending stay as fast when the tables grow."""

import json
import time
from collections.abc import Callable
from decimal import Decimal

from tests.bench.stage import percentile

SIZES = (1_000, 10_000, 100_000)
CLAIMS = 200
PAGES = 30
APPENDS = 2_000
CAP = 5_000
KEYS = 1_000
_FILL = """
INSERT INTO agent_runs (environment_id, agent_id, version_id, status, input, data, priority,
  concurrency_key, timeout, submitted_by, submitter_kind, submitter_id, request_id, worker, fence,
  crashes, running_ms, last_seq, steps, input_tokens, output_tokens, cost_usd, output, error_code,
  error_message, error_reference, wait_reason)
SELECT a.environment_id, a.id, a.current_version_id, 'queued', 'task ' || n, '{}', n %% 5,
  'key ' || n %% %s, 300, 'bench', 'system', 'bench', '', '', 0, 0,
  0, 1, 0, 0, 0, 0, '', '', '', '', ''
  FROM generate_series(1, %s) AS n JOIN agents a ON a.id = (%s::bigint[])[1 + n %% 2]
"""


def measure() -> dict[str, dict[str, float]]:
    """Claim p50 and p99, list page p50 (all in ms) for each size; appends a second at the end.

    Two environments, caps of environment, agent and key, five priorities.
    """
    from django.db import connection

    from agents.models import Agent
    from runs import journal, queue
    from runs.entries import Entry, Kind, Spent
    from runs.models import Run
    from station.accounts.models import Environment
    from tests import factories

    agents = [factories.agent(factories.environment(name)) for name in ("left", "right")]
    Environment.objects.update(max_running=CAP)
    Agent.objects.update(max_running=CAP, concurrency_key="key", max_running_per_key=CAP)
    page = _lister()
    figures: dict[str, dict[str, float]] = {}
    for size in SIZES:
        queued = Run.objects.filter(status="queued").count()
        with connection.cursor() as cursor:
            cursor.execute(_FILL, [KEYS, size - queued, [agent.pk for agent in agents]])
            cursor.execute("ANALYZE agent_runs")
        claims = [_timed(lambda: queue.claim("bench", 600.0)) for _ in range(CLAIMS)]
        pages = [_timed(page) for _ in range(PAGES)]
        figures[str(size)] = {
            "claim_p50_ms": percentile(claims, 0.5),
            "claim_p99_ms": percentile(claims, 0.99),
            "page_p50_ms": percentile(pages, 0.5),
        }
    moved = queue.claim("bench", 600.0)
    assert moved is not None
    begun = time.monotonic()
    spent = Spent(steps=1, input_tokens=100, output_tokens=20, cost_usd=Decimal("0.001"))
    for number in range(APPENDS):
        entry = Entry(kind=Kind.MODEL_ANSWERED, payload={"step": number, "content": "x" * 500})
        journal.append(moved.run_id, moved.fence, [entry], spent)
    figures["appends"] = {"per_s": APPENDS / (time.monotonic() - begun)}
    return figures


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def _lister() -> Callable[[], object]:
    """Reads a page of runs through the REST view, as a member of one environment would."""
    from django.test import Client

    from station.accounts import services as accounts
    from tests import factories

    accounts.create_user(
        factories.OPERATOR, username=f"bench-{time.time_ns()}", platform_admin=True
    )
    user = accounts.visible_users(factories.OPERATOR).order_by("-pk")[0]
    _, key = accounts.create_api_key(factories.OPERATOR, name="bench", username=user.username)
    client = Client(headers={"authorization": f"Bearer {key}"})

    def page() -> object:
        response = client.get("/api/v1/runs?limit=50")
        assert response.status_code == 200, response.content
        return json.loads(response.content)

    return page
