"""``caps``: sixteen claimers at once never exceed a cap, and a full tenant starves no other."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from datetime import datetime
from typing import Any

from station.embedded.drills.report import Options, Report, Say
from station.embedded.drills.stack import Stack

PROMISE = "no cap is ever exceeded, and a tenant's full queue starves no other"
CLAIMERS = 16
PER_ENVIRONMENT, PER_AGENT, PER_KEY = 5, 3, 1
_RUNS, _CROWD = 120, 10_000
_HELD = (0.3, 0.5)
"""Seconds a run is held, at least and at most: long enough for every cap to fill up."""
_KEYS = 4
_PATIENCE = 90.0

Span = tuple[datetime, datetime]


def most_at_once(spans: Iterable[Span]) -> int:
    """How many of the spans (from, to) overlap at most; one that ends makes room first."""
    steps = sorted(step for begin, end in spans for step in ((begin, 1), (end, -1)))
    running = most = 0
    for _, change in steps:
        running += change
        most = max(most, running)
    return most


def caps(options: Options, say: Say) -> Report:
    """Claim and finish runs from sixteen threads, then count what overlapped."""
    report = Report(drill="caps", promise=PROMISE, seed=options.seed)
    with Stack(say, lease=20.0) as stack:
        del stack
        crowd = _Crowd()
        say(f"{CLAIMERS} claimers; caps: {PER_ENVIRONMENT} of the environment, {PER_AGENT} of an "
            f"agent, {PER_KEY} of a key")  # fmt: skip
        crowd.carry(options.seed)
        crowd.judge(report)
        say(f"{_CROWD} runs are queued in one environment, one in another")
        claims = crowd.fairness()
        report.expect(
            claims <= 2, f"the other tenant's run started at claim {claims}, not within 2"
        )
        report.count(claims_until_the_other_tenant_starts=claims)
    return report


class _Crowd:
    """The capped environment, and the claimers."""

    def __init__(self) -> None:
        from agents import changes  # noqa: PLC0415 - Django is set up by the stack
        from agents import services as agents  # noqa: PLC0415
        from station.accounts import environments  # noqa: PLC0415
        from station.accounts import services as accounts  # noqa: PLC0415
        from station.core.principal import system  # noqa: PLC0415

        self._by = system("drill")
        definition = agents.Definition(prompt="You drill.")
        self._agents = []
        self._failures: list[str] = []
        for name in ("capped", "crowded", "quiet"):
            place = accounts.create_environment(self._by, name=name)
            for number in range(3 if name == "capped" else 1):
                agent = agents.create(
                    self._by,
                    environment_id=place.pk,
                    name=f"{name}-{number}",
                    definition=definition,
                )
                if name == "capped":
                    environments.update(self._by, place.pk, max_running=PER_ENVIRONMENT)
                    agent = changes.update(
                        self._by,
                        agent,
                        max_running=PER_AGENT,
                        concurrency_key="key",
                        max_running_per_key=PER_KEY,
                    )
                self._agents.append(agent)

    def carry(self, seed: int) -> None:
        """Have the claimers carry every run of the capped environment."""
        from runs import services  # noqa: PLC0415

        for number in range(_RUNS):
            request = services.Request(input="drill", data={"key": number // 3 % _KEYS})
            services.submit(self._by, self._agents[number % 3], request)
        threads = [
            threading.Thread(target=self._claim, args=(f"{seed} {number}",))
            for number in range(CLAIMERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _claim(self, seed: str) -> None:
        from django.db import connection  # noqa: PLC0415

        rng = random.Random(seed)  # noqa: S311 - a pace, no secret
        try:
            self._claim_until_empty(f"drill:{seed}", rng)
        except Exception as error:  # noqa: BLE001 - a thread's failure is the drill's finding
            self._failures.append(f"a claimer failed: {error!r}")
        finally:
            connection.close()

    def _claim_until_empty(self, name: str, rng: random.Random) -> None:
        from runs import queue, transitions  # noqa: PLC0415
        from runs.models import Run  # noqa: PLC0415
        from runs.states import Status  # noqa: PLC0415

        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            try:
                moved = queue.claim(name, 20.0)
            except queue.Contended:
                moved = None
            if moved is not None:
                time.sleep(rng.uniform(*_HELD))
                transitions.finish(moved.run_id, moved.fence, Status.SUCCEEDED)
            elif not Run.objects.filter(status="queued").exists():
                return
            else:
                time.sleep(rng.uniform(0.001, 0.01))

    def judge(self, report: Report) -> None:
        """Hold the runs' times against the caps."""
        from runs.models import Run  # noqa: PLC0415

        report.violations += self._failures
        rows: Sequence[Any] = list(Run.objects.all())
        ended = [row for row in rows if row.status == "succeeded"]
        report.expect(len(ended) == _RUNS, f"{len(ended)} of {_RUNS} runs ended")
        most = {
            "environment": _most(ended, lambda row: row.environment_id),
            "agent": _most(ended, lambda row: row.agent_id),
            "key": _most(ended, lambda row: (row.agent_id, row.concurrency_key)),
        }
        limits = {"environment": PER_ENVIRONMENT, "agent": PER_AGENT, "key": PER_KEY}
        for name, limit in limits.items():
            report.expect(
                most[name] <= limit, f"{most[name]} runs of one {name} at once, its cap is {limit}"
            )
            report.expect(most[name] == limit, f"the cap of the {name} was never reached")
        report.count(runs=len(ended), claimers=CLAIMERS, caps=limits, most_at_once=most)

    def fairness(self) -> int:
        """With a crowd queued in one environment: the claim that starts another's single run."""
        from runs import queue, services  # noqa: PLC0415
        from runs.models import Run  # noqa: PLC0415

        crowded, quiet = self._agents[-2:]
        request = services.Request(input="drill", data={})
        first = services.submit(self._by, crowded, request)
        Run.objects.bulk_create([_copy(first) for _ in range(_CROWD - 1)], batch_size=1000)
        recent: list[int] = []

        def claim() -> int:
            moved = queue.claim("drill:0:fair", 60.0, tuple(recent))
            assert moved is not None
            place: int = Run.objects.values_list("environment_id", flat=True).get(pk=moved.run_id)
            recent[:] = [*(each for each in recent if each != place), place]
            return place

        for _ in range(CLAIMERS):
            claim()
        services.submit(self._by, quiet, request)
        number = 1
        while claim() != quiet.environment_id and number < CLAIMERS:
            number += 1
        return number


def _copy(run: Any) -> Any:
    """A queued run like ``run``."""
    fields = {field.attname: getattr(run, field.attname) for field in run._meta.concrete_fields}
    for name in ("id", "created_at", "available_at"):
        del fields[name]
    return type(run)(**fields)


def _most(rows: Sequence[Any], group: Any) -> int:
    """The most runs at once within any group."""
    spans: dict[Hashable, list[Span]] = defaultdict(list)
    for row in rows:
        spans[group(row)].append((row.claimed_at, row.finished_at))
    return max((most_at_once(each) for each in spans.values()), default=0)
