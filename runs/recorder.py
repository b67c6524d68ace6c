"""The memory of one execution: what its agent does goes to the journal and to followers."""

from collections.abc import Sequence
from typing import Protocol

from runs import journal, metrics
from runs.assignment import Assignment
from runs.bus import Publisher
from runs.database import Units
from runs.entries import Entry, Event, Kind, Spent
from runs.leases import Leases
from station.core import faults


class Recording(Protocol):
    """What a recorder needs of the process that carries the run."""

    units: Units
    leases: Leases
    publisher: Publisher


class Recorder:
    """The :class:`runs.loop.Journal` of one execution."""

    def __init__(self, work: Assignment, services: Recording, deadline: float) -> None:
        """``deadline`` is the monotonic time at which the run's running time is used up."""
        self._work, self._services = work, services
        self.run_id = work.run_id
        self.history: Sequence[Event] = work.history
        self.deadline = deadline

    async def append(self, *entries: Entry, spent: Spent | None = None) -> None:
        work = self._work
        events = await self._services.units.run(
            lambda: journal.append(work.run_id, work.fence, entries, spent)
        )
        if entries[-1].kind is Kind.TOOL_CALLED:
            faults.point("after-intent")
        elif entries[-1].kind is Kind.TOOL_RETURNED:
            faults.point("after-result")
        for event in events:
            self._services.publisher.event(work.run_id, event)
        if spent is not None:
            count(work.environment, entries[0], spent)

    def check_lease(self) -> None:
        self._services.leases.check(self._work.run_id, self._work.fence)

    def delta(self, step: int, text: str) -> None:
        self._services.publisher.delta(self._work.run_id, step, text)


def count(environment: str, answer: Entry, spent: Spent) -> None:
    """Count a model's answer in the metrics."""
    if answer.kind is Kind.MODEL_ANSWERED:
        metrics.answered(
            environment,
            answer.payload["model"],
            input_tokens=spent.input_tokens,
            output_tokens=spent.output_tokens,
            cost_usd=spent.cost_usd,
        )
