"""``caps``: sixteen claimers at once never exceed a cap, and a full tenant starves no other."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from station.embedded.drills.outcome import Outcome
from station.embedded.drills.report import Options, Report, Say
from station.embedded.drills.rows import read_records
from station.embedded.drills.stack import staged

CLAIMERS = 16
PER_ENVIRONMENT, PER_AGENT, PER_KEY = 5, 3, 1
RUNS, _CROWD = 120, 10_000
NEVER = CLAIMERS + 1
"""The claim that starts the other tenant's run, where none did within as many as claimers."""
_HELD = (0.15, 0.25)
"""Seconds a run is held, at least and at most: long enough for every cap to fill up."""
_KEYS = 4
_PATIENCE = 90.0

Span = tuple[datetime, datetime]
LIMITS = {"environment": PER_ENVIRONMENT, "agent": PER_AGENT, "key": PER_KEY}


@dataclass(frozen=True, kw_only=True)
class Carried:
    """A run that was carried: what its caps go by, and from when to when."""

    environment: int
    agent: int
    key: str
    span: Span


def most_at_once(spans: Iterable[Span]) -> int:
    """How many of the spans (from, to) overlap at most; one that ends makes room first."""
    steps = sorted(step for begin, end in spans for step in ((begin, 1), (end, -1)))
    running = most = 0
    for _, change in steps:
        running += change
        most = max(most, running)
    return most


def caps(report: Report, options: Options, say: Say) -> None:
    """Claim and finish runs from sixteen threads, then count what overlapped."""
    with staged(report, say, lease=20.0):
        crowd = _Crowd()
        say(f"{CLAIMERS} claimers; caps: {PER_ENVIRONMENT} of the environment, {PER_AGENT} of an "
            f"agent, {PER_KEY} of a key")  # fmt: skip
        crowd.carry(1 if options.seed is None else options.seed)
        outcome = Outcome(runs=read_records(), submitted=frozenset(crowd.submitted))
        say(f"{_CROWD} runs are queued in one environment, one in another")
        judge(report, outcome, crowd.carried(), crowd.fairness(), crowd.failures)


def judge(
    report: Report,
    outcome: Outcome,
    carried: Sequence[Carried],
    claims: int,
    failures: Sequence[str] = (),
) -> None:
    """No cap was exceeded, each was reached, and the other tenant started within two ``claims``."""
    report.violations += failures
    outcome.judge_history(report)
    for run in outcome.runs:
        report.expect(run.fence == 1, f"it was claimed {run.fence} times", run=run.run_id)
    report.expect(len(carried) == RUNS, f"{len(carried)} of {RUNS} runs were carried")
    most = {
        "environment": _most(carried, lambda run: run.environment),
        "agent": _most(carried, lambda run: run.agent),
        "key": _most(carried, lambda run: (run.agent, run.key)),
    }
    for name, limit in LIMITS.items():
        report.expect(
            most[name] <= limit, f"{most[name]} runs of one {name} at once, its cap is {limit}"
        )
        report.expect(most[name] >= limit, f"the cap of the {name} was never reached")
    when = f"claim {claims}" if claims < NEVER else f"none of {CLAIMERS} claims"
    report.expect(claims <= 2, f"the other tenant's run started at {when}, not within 2")
    report.count(
        claimers=CLAIMERS,
        caps=LIMITS,
        most_at_once=most,
        claims_until_the_other_tenant_starts=claims,
    )


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
        self.submitted: set[int] = set()
        self.failures: list[str] = []
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

        for number in range(RUNS):
            request = services.Request(input="drill", data={"key": number // 3 % _KEYS})
            run = services.submit(self._by, self._agents[number % 3], request)
            self.submitted.add(run.pk)
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
            self.failures.append(f"a claimer failed: {error!r}")
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
                if transitions.finish(moved.run_id, moved.fence, Status.SUCCEEDED) is None:
                    self.failures.append(f"run {moved.run_id}: its owner could not end it")
            elif not Run.objects.filter(status="queued").exists():
                return
            else:
                time.sleep(rng.uniform(0.001, 0.01))

    def carried(self) -> list[Carried]:
        """The runs that were claimed and have ended."""
        from runs.models import Run  # noqa: PLC0415

        return [
            Carried(
                environment=row.environment_id,
                agent=row.agent_id,
                key=row.concurrency_key,
                span=(row.claimed_at, row.finished_at),
            )
            for row in Run.objects.filter(pk__in=self.submitted)
            if row.claimed_at is not None and row.finished_at is not None
        ]

    def fairness(self) -> int:
        """With a crowd queued in one environment: the claim that starts another's single run;
        :data:`NEVER` where none did."""
        from runs import queue, services  # noqa: PLC0415
        from runs.models import Run  # noqa: PLC0415

        crowded, quiet = self._agents[-2:]
        request = services.Request(input="drill", data={})
        first = services.submit(self._by, crowded, request)
        _multiply(first, _CROWD)
        recent: list[int] = []

        def claim() -> int | None:
            moved = queue.claim("drill:0:fair", 60.0, tuple(recent))
            if moved is None:
                return None
            place: int = Run.objects.values_list("environment_id", flat=True).get(pk=moved.run_id)
            recent[:] = [*(each for each in recent if each != place), place]
            return place

        for _ in range(CLAIMERS):
            claim()
        services.submit(self._by, quiet, request)
        return first_claim_from(quiet.environment_id, claim)


def first_claim_from(environment: int, claim: Callable[[], int | None]) -> int:
    """Which claim gets a run of the environment; :data:`NEVER` where none of the first does.

    ``claim`` says whose run it got; ``None``: it got none.
    """
    return next((n for n in range(1, NEVER) if claim() == environment), NEVER)


def _multiply(run: Any, times: int) -> None:
    """Have ``times`` queued runs like ``run``, itself included."""
    from django.db import connection  # noqa: PLC0415

    own = {"id", "created_at", "available_at"}
    names = [field.column for field in run._meta.concrete_fields if field.column not in own]
    columns, table = ", ".join(names), run._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {table}, "  # noqa: S608 - names
            "generate_series(2, %s) WHERE id = %s",
            [times, run.pk],
        )


def _most(runs: Sequence[Carried], group: Callable[[Carried], Hashable]) -> int:
    """The most runs at once within any group."""
    spans: dict[Hashable, list[Span]] = defaultdict(list)
    for run in runs:
        spans[group(run)].append(run.span)
    return max((most_at_once(each) for each in spans.values()), default=0)
