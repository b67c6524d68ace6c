"""(c) Whether claiming, listing and appending stay as fast when the tables grow."""

import json
import time
from collections.abc import Callable
from decimal import Decimal

from django.test import Client

from agents.models import Agent
from runs import journal
from runs.entries import Entry, Kind, Spent
from runs.models import Run
from station.accounts import services as accounts
from station.accounts.models import Environment
from tests import factories
from tests.bench import blocked
from tests.bench.claiming import claimed, timed
from tests.bench.filling import fill
from tests.bench.stage import percentile

SIZES = (1_000, 10_000, 100_000)
CLAIMS = 200
PAGES = 30
APPENDS = 2_000
CAP = 5_000
KEYS = 1_000


def measure() -> dict[str, dict[str, float]]:
    """Claim p50 and p99, list page p50 (all in ms) for each size; then appends a second.

    Two environments, five priorities, and caps of environment, agent and key that are not reached;
    ``blocked`` are claims where caps are, see :mod:`tests.bench.blocked`.
    """
    agents = [factories.agent(factories.environment(name)) for name in ("left", "right")]
    Environment.objects.update(max_running=CAP)
    Agent.objects.update(max_running=CAP, concurrency_key="key", max_running_per_key=CAP)
    page = _lister()
    figures: dict[str, dict[str, float]] = {}
    for size in SIZES:
        queued = Run.objects.filter(status="queued").count()
        fill(agents, size - queued, keys=KEYS, priorities=5)
        claims = [timed(claimed)[0] for _ in range(CLAIMS)]
        pages = [timed(page)[0] for _ in range(PAGES)]
        figures[str(size)] = {
            "claim_p50_ms": percentile(claims, 0.5),
            "claim_p99_ms": percentile(claims, 0.99),
            "page_p50_ms": percentile(pages, 0.5),
        }
    moved = claimed()
    begun = time.monotonic()
    spent = Spent(steps=1, input_tokens=100, output_tokens=20, cost_usd=Decimal("0.001"))
    for number in range(APPENDS):
        entry = Entry(kind=Kind.MODEL_ANSWERED, payload={"step": number, "content": "x" * 500})
        journal.append(moved.run_id, moved.fence, [entry], spent)
    figures["appends"] = {"per_s": APPENDS / (time.monotonic() - begun)}
    figures["blocked"] = blocked.measure()
    return figures


def _lister() -> Callable[[], object]:
    """Reads a page of runs through the REST view, as a member of one environment would."""
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
