"""The house that :mod:`test_model` plays in: model and database, people, and the comparison."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from django.db import connection
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from agents.models import Agent
from runs import decisions, lanes, services
from runs.decisions import Decision, Verdict
from runs.entries import Entry, Event, Kind, Spent
from runs.errors import NothingToDecide, RunFinished
from runs.models import Run
from runs.states import TERMINAL, Status
from station.accounts.models import Environment
from station.core.errors import Conflict
from tests import factories
from tests.integration.runs import modelling
from tests.integration.runs.modelling import Model

T = TypeVar("T")
LIVE = (Status.QUEUED, Status.RUNNING)
KEYED = (0, 3)
"""The numbers of the agents whose runs have a concurrency key."""
HOMES = ((None, (None, 1)), (2, (None, None)))
"""The caps of the environments, and those of their agents, when an example begins."""
CLOCK_ERROR_MS = 60_000
"""How long an example may really take: its running times are wrong by so much at most."""
_ROWS = """
SELECT r.id, r.status, r.fence, r.crashes, r.retries, r.last_seq, r.worker, r.error_code,
       r.cancel_requested_at IS NOT NULL, r.behind,
       r.steps, r.input_tokens, r.output_tokens, r.cost_usd,
       r.running_ms, r::text,
       ARRAY(SELECT e.kind FROM agent_run_events e WHERE e.run_id = r.id ORDER BY e.seq),
       ARRAY(SELECT e.seq FROM agent_run_events e WHERE e.run_id = r.id ORDER BY e.seq)
  FROM agent_runs r
"""


@dataclass(kw_only=True)
class Claim:
    """What a worker remembers of a run it claimed, for as long as it lives."""

    worker: str
    run_id: int
    fence: int
    sent: list[Entry] = field(default_factory=list)
    stored: list[Event] | None = None
    """The answer to ``sent``; ``None`` when its transaction was rolled back."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """A run as a person saw it, which may be long ago."""

    row: Run
    calls: tuple[str, ...]


class House(RuleBasedStateMachine):
    """Both sides, the moves of people, and what must hold after every move."""

    submitted = Bundle("submitted")
    looks = Bundle("looks")

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.taken: list[Claim] = []
        self.frozen: dict[int, str] = {}
        self.fences: dict[int, int] = {}
        self.other = ThreadPoolExecutor(1)  # a second connection to the database

    @initialize(target=submitted)
    def start_with_a_run_of_each_agent(self) -> MultipleResults[Any]:
        """Hypothesis leaves out whole rules in an example, :meth:`submit` among them."""
        self._furnish()
        return multiple(
            *(self.submit(who, "a", 0, hurry) for who in range(4) for hurry in (False, True))
        )

    def _furnish(self) -> None:
        """The same environments and agents for every example, but for what is changed of them."""
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE agent_runs CASCADE")
        if not Environment.objects.exists():
            for home in [factories.environment() for _ in HOMES]:
                for _ in range(2):
                    factories.agent(home)
        for (home_cap, agent_caps), home in zip(
            HOMES, Environment.objects.order_by("pk"), strict=True
        ):
            place = modelling.Environment(id=home.pk, most=home_cap)
            self.model.environments.append(place)
            self._set(place)
            for cap, agent in zip(agent_caps, home.agents.order_by("pk"), strict=True):
                keyed = len(self.model.agents) in KEYED
                Agent.objects.filter(pk=agent.pk).update(
                    concurrency_key="customer" if keyed else ""
                )
                hired = modelling.Agent(id=agent.pk, environment=home.pk, keyed=keyed, most=cap)
                self.model.agents.append(hired)
                self._set(hired)

    def _set(self, what: modelling.Agent | modelling.Environment) -> None:
        """Have the database's caps and pauses be those of the model."""
        if isinstance(what, modelling.Environment):
            rows = Environment.objects.filter(pk=what.id)
            rows.update(paused=what.paused, max_running=what.most)
        else:
            Agent.objects.filter(pk=what.id).update(
                paused=what.paused, max_running=what.most, max_running_per_key=what.most_per_key
            )
            lanes.advance_all()
            self.model.advance()

    def teardown(self) -> None:
        self._elsewhere(lambda: connection.close())  # noqa: PLW0108 - that thread's
        self.other.shutdown()

    # --- the people ------------------------------------------------------------------------------

    @rule(
        target=submitted,
        who=st.integers(0, 3),
        key=st.sampled_from(["a", "b"]),
        priority=st.sampled_from([0, 0, 5]),
        hurry=st.booleans(),
    )
    def submit(self, who: int, key: str, priority: int, hurry: bool) -> int:
        agent = self.model.agents[who]
        row = services.submit(
            factories.OPERATOR,
            Agent.objects.get(pk=agent.id),
            services.Request(
                input="x",
                data={"customer": key} if agent.keyed else {},
                priority=priority,
                queue_timeout=modelling.QUEUE_TIMEOUT if hurry else None,
            ),
        )
        run = modelling.Run(
            id=row.pk,
            agent=agent,
            key=key if agent.keyed else "",
            priority=priority,
            available_at=self.model.now,
            deadline=self.model.now + modelling.QUEUE_TIMEOUT if hurry else None,
        )
        self.model.admit(run)
        return row.pk

    @rule(run_id=submitted)
    def cancel(self, run_id: int) -> None:
        run = self.model.runs[run_id]
        row = Run.objects.get(pk=run_id)
        if run.over:
            with pytest.raises(RunFinished):
                services.cancel(factories.OPERATOR, row)
            return
        services.cancel(factories.OPERATOR, row)
        if run.status is not Status.RUNNING:
            run.cancelling = True
            run.move(Status.CANCELLED, Kind.FINISHED)
            self.model.advance()
        elif not run.cancelling:
            run.cancelling = True
            run.append([Kind.CANCEL_REQUESTED])

    @rule(target=looks, run_id=submitted)
    def look(self, run_id: int) -> Look:
        run = self.model.runs[run_id]
        return Look(row=Run.objects.get(pk=run_id), calls=tuple(run.calls))

    @rule(look=looks, verdict=st.sampled_from(Verdict))
    def decide(self, look: Look, verdict: Verdict) -> None:
        run = self.model.runs[look.row.pk]
        said = [Decision(call_id=call, verdict=verdict) for call in look.calls]
        if look.row.status != Status.WAITING:
            with pytest.raises(NothingToDecide):
                decisions.decide(factories.OPERATOR, look.row, said)
            return
        if run.status is not Status.WAITING or run.seq != look.row.last_seq:
            with pytest.raises(Conflict):
                decisions.decide(factories.OPERATOR, look.row, said)
            return
        decisions.decide(factories.OPERATOR, look.row, said)
        run.append([Kind.DECIDED] * len(said))
        if verdict is Verdict.STOP:
            run.move(Status.FAILED, Kind.FINISHED)
            run.error = "stopped_in_doubt"
        else:
            run.status, run.available_at = Status.QUEUED, self.model.now
            run.calls.clear()

    @rule(
        who=st.integers(0, 3),
        of=st.sampled_from(["agent", "environment", "key"]),
        knob=st.sampled_from([None, 1, 2, "pause"]),
    )
    def operate(self, who: int, of: str, knob: int | str | None) -> None:
        """Change a cap, or pause or resume an agent or an environment."""
        agent = self.model.agents[KEYED[who % 2] if of == "key" else who]
        what = self.model.environments[who % 2] if of == "environment" else agent
        if what.paused or knob == "pause":
            what.paused = not what.paused
        elif of == "key":
            agent.most_per_key = int(knob or 1)
        else:
            what.most = int(knob) if knob else None
        self._set(what)

    def _elsewhere(self, work: Callable[[], T]) -> T:
        return self.other.submit(work).result(timeout=20)

    # --- what must hold after every move ---------------------------------------------------------

    @invariant()
    def the_database_says_what_the_model_says(self) -> None:
        for row in self._rows():
            run = self.model.runs[row["id"]]
            assert row["row"] == (
                run.status, run.fence, run.crashes, run.retries, run.seq, run.worker, run.error,
                run.cancelling, run.behind,
            )  # fmt: skip
            assert row["spent"] == run.spent
            assert row["kinds"] == run.journal
            assert abs(row["running_ms"] - run.ran * 1000) < CLOCK_ERROR_MS

    @invariant()
    def journals_have_no_gaps_and_at_most_one_end(self) -> None:
        for row in self._rows():
            assert row["seqs"] == list(range(1, len(row["seqs"]) + 1))
            over = row["row"][0] in TERMINAL
            assert row["kinds"].count(Kind.FINISHED) == over
            assert not over or row["kinds"][-1] == Kind.FINISHED

    @invariant()
    def what_is_over_never_changes_and_fences_only_rise(self) -> None:
        for row in self._rows():
            status, fence = row["row"][:2]
            assert fence >= self.fences.get(row["id"], 0)
            self.fences[row["id"]] = fence
            if status in TERMINAL:
                assert self.frozen.setdefault(row["id"], row["text"]) == row["text"]

    @invariant()
    def who_is_behind_has_somebody_before_them(self) -> None:
        live = [run for run in self.model.runs.values() if run.status in LIVE]
        before = {(run.agent.id, run.key) for run in live if not run.behind}
        assert before >= {(run.agent.id, run.key) for run in live if run.behind}

    @invariant()
    def a_running_run_has_exactly_one_owner(self) -> None:
        believers = [(claim.run_id, claim.fence) for claim in self.taken]
        assert len(believers) == len(set(believers))
        for run in self.model.runs.values():
            if run.status is Status.RUNNING:
                assert (run.id, run.fence) in believers

    def _rows(self) -> Iterator[dict[str, Any]]:
        with connection.cursor() as cursor:
            cursor.execute(_ROWS)
            for row in cursor.fetchall():
                steps, taken, given, cost = row[10:14]
                yield {
                    "id": row[0],
                    "row": row[1:10],
                    "spent": Spent(
                        steps=steps, input_tokens=taken, output_tokens=given, cost_usd=cost
                    ),
                    "running_ms": row[14],
                    "text": row[15],
                    "kinds": row[16],
                    "seqs": row[17],
                }
