"""A small model of the queue in Python: what docs/specification.md says, executable.

It knows nothing of SQL. Time is a number that only the test moves; the times below are chosen so
that the seconds a test really takes never decide about an expiry.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from runs.entries import Kind, Spent
from runs.states import TERMINAL, Status

LEASE = 1000.0
STEP_OF_TIME = 300.0
BACKOFF = 450.0
PATIENCE = 2000.0
QUEUE_TIMEOUT = 1000.0
MOST_ATTEMPTS = 3


@dataclass(kw_only=True)
class Agent:
    """An agent and its caps."""

    id: int
    environment: int
    keyed: bool = False
    paused: bool = False
    most: int | None = None
    most_per_key: int = 1


@dataclass(kw_only=True)
class Environment:
    """An environment and its cap."""

    id: int
    paused: bool = False
    most: int | None = None


@dataclass(kw_only=True)
class Run:
    """What the database must say about one run."""

    id: int
    agent: Agent
    key: str
    priority: int
    available_at: float
    deadline: float | None
    status: Status = Status.QUEUED
    behind: bool = False
    fence: int = 0
    crashes: int = 0
    retries: int = 0
    spent: Spent = field(default_factory=Spent)
    worker: str = ""
    cancelling: bool = False
    claimed_at: float = 0.0
    lease_until: float = 0.0
    wait_until: float = 0.0
    ran: float = 0.0
    error: str = ""
    calls: list[str] = field(default_factory=list)
    journal: list[Kind] = field(default_factory=lambda: [Kind.SUBMITTED])

    @property
    def seq(self) -> int:
        return len(self.journal)

    @property
    def over(self) -> bool:
        return self.status in TERMINAL

    def owned(self, fence: int, now: float) -> bool:
        """Whether a worker with that fence may still write."""
        return self.status is Status.RUNNING and self.fence == fence and now < self.lease_until

    def silent(self, now: float) -> bool:
        """Whether the keeper has to free it."""
        return self.status is Status.RUNNING and now > self.lease_until

    def leave(self, target: Status, now: float, kind: Kind) -> None:
        """Go from running to another status."""
        self.ran += min(now, self.lease_until) - self.claimed_at
        self.worker = ""
        self.move(target, kind)

    def move(self, target: Status, kind: Kind) -> None:
        self.status = target
        self.journal.append(kind)

    def append(self, kinds: Iterable[Kind]) -> None:
        for kind in kinds:
            self.journal.append(kind)
            if kind in (Kind.MODEL_ANSWERED, Kind.TOOL_RETURNED):
                self.crashes = 0

    def spend(self, more: Spent) -> None:
        self.spent = Spent(
            steps=self.spent.steps + more.steps,
            input_tokens=self.spent.input_tokens + more.input_tokens,
            output_tokens=self.spent.output_tokens + more.output_tokens,
            cost_usd=self.spent.cost_usd + more.cost_usd,
        )


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a claim finds, and the locks about caps that it holds until it commits."""

    run: Run | None
    locks: frozenset[tuple[str, int, str]]
    contended: bool
    """Another claimer was deciding about a cap that stood in the way."""


@dataclass(kw_only=True)
class Model:
    """The queue."""

    environments: list[Environment] = field(default_factory=list)
    agents: list[Agent] = field(default_factory=list)
    runs: dict[int, Run] = field(default_factory=dict)
    now: float = 0.0

    def running(
        self,
        environment: Environment | None = None,
        agent: Agent | None = None,
        key: str | None = None,
    ) -> int:
        return sum(
            run.status is Status.RUNNING
            and (environment is None or run.agent.environment == environment.id)
            and (agent is None or run.agent is agent)
            and (key is None or run.key == key)
            for run in self.runs.values()
        )

    def pick(self, beside: Search | None = None) -> Search:
        """What the next claim finds, while the claim ``beside`` is not committed yet."""
        foreign = beside.locks if beside else frozenset()
        mine: set[tuple[str, int, str]] = set()
        contended = False
        for environment in self._turns():
            if environment.most is not None:
                lock = ("environment", environment.id, "")
                if lock in foreign:
                    contended = True
                    continue
                mine.add(lock)
            for run in self._line(environment):
                wanted = self._locks(run)
                mine |= wanted - foreign
                if wanted & foreign:
                    contended = True
                elif beside is None or run is not beside.run:
                    return Search(run=run, locks=frozenset(mine), contended=contended)
        return Search(run=None, locks=frozenset(mine), contended=contended)

    def admit(self, run: Run) -> None:
        """A new run: behind the others of its lane, unless there is room for it."""
        run.behind = bool(run.key) and self._room(run) <= 0
        self.runs[run.id] = run

    def advance(self) -> None:
        """Whoever is behind comes to the front where there is room, the next in line first."""
        for run in sorted(self.runs.values(), key=lambda run: (-run.priority, run.id)):
            if run.behind and run.status is Status.QUEUED and self._room(run) > 0:
                run.behind = False

    def _lane(self, run: Run) -> list[Run]:
        """The runs of the same agent and key that are queued or running."""
        return [
            other
            for other in self.runs.values()
            if other.agent is run.agent
            and other.key == run.key
            and other.status in (Status.QUEUED, Status.RUNNING)
        ]

    def _room(self, run: Run) -> int:
        """How many more of its lane and priority may come to the front."""
        return run.agent.most_per_key - sum(
            other.status is Status.RUNNING
            or (
                not other.behind
                and other.available_at <= self.now
                and other.priority >= run.priority
            )
            for other in self._lane(run)
        )

    def claim(self, run: Run, worker: str) -> Run:
        run.move(Status.RUNNING, Kind.CLAIMED)
        run.fence += 1
        run.worker = worker
        run.claimed_at, run.lease_until = self.now, self.now + LEASE
        return run

    def _turns(self) -> Iterator[Environment]:
        """The environments that may start something, the one with the fewest running first."""
        ready = [
            environment
            for environment in self.environments
            if not environment.paused
            and (environment.most is None or self.running(environment) < environment.most)
            and any(
                run.agent.environment == environment.id and self._due(run)
                for run in self.runs.values()
            )
        ]
        yield from sorted(ready, key=lambda each: (self.running(each), each.id))

    def _line(self, environment: Environment) -> list[Run]:
        """The runs of an environment that no cap holds back, the next one first."""
        return sorted(
            (
                run
                for run in self.runs.values()
                if run.agent.environment == environment.id
                and self._due(run)
                and not run.agent.paused
                and not self._full(run)
            ),
            key=lambda run: (-run.priority, run.id),
        )

    def _due(self, run: Run) -> bool:
        late = run.deadline is not None and run.deadline < self.now and not run.fence
        in_time = run.available_at <= self.now and not late
        return run.status is Status.QUEUED and not run.behind and in_time

    def _full(self, run: Run) -> bool:
        agent = run.agent
        if agent.most is not None and self.running(agent=agent) >= agent.most:
            return True
        return run.key != "" and self.running(agent=agent, key=run.key) >= agent.most_per_key

    def _locks(self, run: Run) -> set[tuple[str, int, str]]:
        locks = set()
        if run.agent.most is not None:
            locks.add(("agent", run.agent.id, ""))
        if run.key:
            locks.add(("key", run.agent.id, run.key))
        return locks
