"""What drills play on a stack: agents whose models are scripted, runs, and a person who decides."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from station.embedded.drills.history import TERMINAL, Effect
from station.embedded.drills.outcome import Outcome
from station.embedded.drills.person import decide_about
from station.embedded.drills.rows import read_records, steady
from station.embedded.drills.stack import Stack
from station.embedded.ports import LOOPBACK

ENVIRONMENT = "drill"
_ENDED_WITHIN = 90.0


class Stage:
    """The runs of one drill. Everything here survives a database that goes away for a while."""

    def __init__(self, stack: Stack) -> None:
        """Make the environment with its tools; the one that only looks is vouched for."""
        from agents import services as agents  # noqa: PLC0415 - Django is set up by the stack
        from station.accounts import services as accounts  # noqa: PLC0415
        from station.core.principal import system  # noqa: PLC0415
        from toolservers import inspection  # noqa: PLC0415
        from toolservers import services as toolservers  # noqa: PLC0415

        self._stack = stack
        self.principal = system("drill")
        self.environment = accounts.create_environment(self.principal, name=ENVIRONMENT)
        server = toolservers.add(
            self.principal,
            environment_id=self.environment.pk,
            name="tools",
            transport="http",
            url=f"http://{LOOPBACK}:{stack.tools_port}/mcp",
        )
        found = inspection.discover(self.principal, server)
        toolservers.approve(self.principal, found.get(name="sleep"))
        self._make = agents.create
        self._definition = agents.Definition
        self._agents: dict[str, Any] = {}
        self._numbers = itertools.count(1)
        self._tasks: dict[str, int] = {}
        self._in_time = True

    def agent(self, script: str, **definition: Any) -> Any:
        """The agent that plays ``script``; ``definition`` counts when it is made."""
        if script not in self._agents:
            self._agents[script] = self._make(
                self.principal,
                environment_id=self.environment.pk,
                name=script,
                definition=self._definition(
                    prompt="You drill.", model=script, tools=("tools/*",), **definition
                ),
            )
        return self._agents[script]

    def submit(self, script: str) -> int:
        """Submit a run whose task is unlike any other, until it is acknowledged; its id."""
        from runs import services  # noqa: PLC0415

        agent = self.agent(script)
        task = self.new_task()
        request = services.Request(input=task, data={})
        run = steady(lambda: services.submit(self.principal, agent, request, idempotency_key=task))
        self._tasks[task] = run.pk
        return run.pk

    def new_task(self) -> str:
        """A task unlike any other."""
        return f"task {next(self._numbers)}"

    def acknowledged(self, task: str) -> int:
        """Somebody was told that the task is stored; the run that it was stored as first."""
        from runs.models import Run  # noqa: PLC0415

        rows = Run.objects.filter(input=task).order_by("pk")
        self._tasks[task] = steady(lambda: int(rows.values_list("pk", flat=True)[0]))
        return self._tasks[task]

    def ring(self, times: int) -> None:
        """Ring so many bells."""
        from runs.bell import ring  # noqa: PLC0415

        ring(times)

    def await_ends(
        self,
        *run_ids: int,
        within: float = _ENDED_WITHIN,
        each: Callable[[], object] | None = None,
    ) -> bool:
        """Wait until the runs (or all) have ended; whether they have.

        What is in doubt is decided meanwhile, or what ``each`` does is done.
        """
        ended = self._stack.came_true(
            lambda: not self.unfinished(*run_ids), within=within, each=each or self.settle
        )
        self._in_time = self._in_time and ended
        return ended

    def await_rest(self, *, within: float = _ENDED_WITHIN) -> None:
        """Wait until every run has ended or waits for a person: nobody is on the way to one."""
        moving = {"queued", "running"}
        rested = self._stack.came_true(lambda: not moving & self.statuses().keys(), within=within)
        self._in_time = self._in_time and rested

    def unfinished(self, *run_ids: int) -> int:
        """How many runs (of ``run_ids``, or of all) have not ended."""
        from runs.models import Run  # noqa: PLC0415

        rows = Run.objects.filter(pk__in=run_ids) if run_ids else Run.objects.all()
        return steady(lambda: rows.exclude(status__in=TERMINAL).count())

    def workers(self, *, since: float = 0.0) -> set[int]:
        """The process ids of the workers that have been up for ``since`` seconds."""
        from runs.models import Worker  # noqa: PLC0415

        latest = datetime.now(UTC) - timedelta(seconds=since)
        rows = Worker.objects.filter(started_at__lte=latest)
        return steady(lambda: set(rows.values_list("pid", flat=True)))

    def owner(self, run_id: int) -> int | None:
        """The process id of the worker that has the run now."""
        from runs.models import Run  # noqa: PLC0415

        name: str = steady(lambda: Run.objects.values_list("worker", flat=True).get(pk=run_id))
        return int(name.split(":")[-2]) if name else None

    def statuses(self, *run_ids: int) -> Counter[str]:
        """How many runs (of ``run_ids``, or of all) there are of each status."""
        from runs.models import Run  # noqa: PLC0415

        rows = Run.objects.filter(pk__in=run_ids) if run_ids else Run.objects.all()
        return Counter(steady(lambda: list(rows.values_list("status", flat=True))))

    def entries(self, run_id: int, kind: str) -> int:
        """How many entries of a kind the run's journal has."""
        from runs.models import RunEvent  # noqa: PLC0415

        return steady(RunEvent.objects.filter(run_id=run_id, kind=kind).count)

    def settle(self) -> None:
        """Decide every call in doubt as a person would who can see the effects."""
        from runs.models import Run  # noqa: PLC0415

        waiting = steady(lambda: list(Run.objects.filter(status="waiting")))
        happened = {effect.key for effect in self.effects()} if waiting else set()
        for run in waiting:
            decide_about(self.principal, run, happened)

    def effects(self) -> list[Effect]:
        """What the tool server has done so far."""
        if not self._stack.sink.exists():
            return []
        written = self._stack.sink.read_text().rpartition("\n")[0]
        lines = [line for line in written.splitlines() if line.startswith("{")]
        return [
            Effect(key=line["key"], at=datetime.fromtimestamp(line["at"], UTC))
            for line in map(json.loads, lines)
        ]

    def outcome(self) -> Outcome:
        """End every process of Station, and say how everything stands."""
        self._stack.quiet()
        return Outcome(
            runs=read_records(),
            effects=self.effects(),
            submitted=frozenset(self._tasks.values()),
            asked=self._asked(),
            in_time=self._in_time,
        )

    def _asked(self) -> Mapping[int, int]:
        def task(messages: Sequence[Mapping[str, Any]]) -> str:
            return next(str(each["content"]) for each in messages if each["role"] == "user")

        tasks = Counter(task(request.body["messages"]) for request in self._stack.model.requests)
        return {run_id: tasks[name] for name, run_id in self._tasks.items()}
