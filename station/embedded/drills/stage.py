"""What drills play on a stack: agents whose models are scripted, runs, and a person who decides."""

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from station.embedded.drills.history import TERMINAL, Effect, Happening, RunRecord
from station.embedded.drills.stack import Stack, until
from station.embedded.ports import LOOPBACK

T = TypeVar("T")
_WITHOUT_DATABASE = 60.0
_TASK = "{{input}}"
_WRITES = "tools__append_keyed"
NOTE = {"name": _WRITES, "arguments": {"text": _TASK}}
WRITING = frozenset({_WRITES})
_DONE = {"say": "done", "delay": 0.1}


def look(seconds: float) -> dict[str, Any]:
    """A call of the read-only tool, which takes that long."""
    return {"name": "tools__sleep", "arguments": {"seconds": seconds}}


SCRIPTS: list[dict[str, Any]] = [
    {"name": "answer", "turns": [{"say": "done", "delay": 0.5}]},
    {"name": "look", "turns": [{"tool_calls": [look(0.5)]}, _DONE]},
    {"name": "note", "turns": [{"tool_calls": [NOTE], "delay": 0.1}, _DONE]},
    {
        "name": "two-notes",
        "turns": [{"tool_calls": [NOTE, look(0.3)]}, {"tool_calls": [look(0.1), NOTE]}, _DONE],
    },
]
SLOW = 8.0
SLOW_SCRIPTS: list[dict[str, Any]] = [
    *SCRIPTS,
    {"name": "think-slowly", "turns": [{"say": "done", "delay": SLOW}]},
    {"name": "look-slowly", "turns": [{"tool_calls": [look(SLOW)]}, {"tool_calls": [NOTE]}, _DONE]},
]
KINDS = ("answer", "look", "note", "two-notes")


class Stage:
    """The runs of one drill. Everything here survives a database that goes away for a while."""

    def __init__(self, stack: Stack) -> None:
        from agents import services as agents  # noqa: PLC0415 - Django is set up by the stack
        from station.accounts import services as accounts  # noqa: PLC0415
        from station.core.principal import system  # noqa: PLC0415
        from toolservers import services as toolservers  # noqa: PLC0415

        self._stack = stack
        self.principal = system("drill")
        self.environment = accounts.create_environment(self.principal, name="drill")
        self._server = toolservers.add(
            self.principal,
            environment_id=self.environment.pk,
            name="tools",
            transport="http",
            url=f"http://{LOOPBACK}:{stack.tools_port}/mcp",
        )
        self._make = agents.create
        self._definition = agents.Definition
        self._agents: dict[str, Any] = {}
        self._numbers = itertools.count(1)
        self.submitted: set[int] = set()

    def agent(self, script: str, name: str = "") -> Any:
        """The agent that plays ``script``; another one for each ``name``."""
        key = name or script
        if key not in self._agents:
            definition = self._definition(prompt="You drill.", model=script, tools=("tools/*",))
            self._agents[key] = self._make(
                self.principal,
                environment_id=self.environment.pk,
                name=key,
                definition=definition,
            )
        return self._agents[key]

    def submit(self, script: str, name: str = "") -> int:
        """Submit a run whose task is unlike any other, until it is acknowledged; its id."""
        from runs import services  # noqa: PLC0415

        agent = self.agent(script, name)
        number = next(self._numbers)
        request = services.Request(input=f"task {number}", data={})
        run = steady(
            lambda: services.submit(
                self.principal, agent, request, idempotency_key=f"drill {number}"
            )
        )
        self.submitted.add(run.pk)
        return run.pk

    def pause(self, *chosen: Any, paused: bool) -> None:
        """Have no run of the agents (by default: of all) start, or have them start again."""
        from agents import changes  # noqa: PLC0415

        for agent in chosen or self._agents.values():
            changes.update(self.principal, agent, paused=paused)

    def rehearse(self) -> None:
        """Have a worker discover the tools, and vouch for the one that only looks."""
        from toolservers import services as toolservers  # noqa: PLC0415

        run = self.submit("note")
        until(lambda: self.unfinished(run) == 0, "the rehearsal")
        toolservers.approve(self.principal, self._server.tools.get(name="sleep"))

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

    def statuses(self) -> Counter[str]:
        """How many runs there are of each status."""
        from runs.models import Run  # noqa: PLC0415

        return Counter(steady(lambda: list(Run.objects.values_list("status", flat=True))))

    def settle(self) -> int:
        """Decide every call in doubt as a person would who can see the effects; how many."""
        from runs.models import Run  # noqa: PLC0415

        waiting = steady(lambda: list(Run.objects.filter(status="waiting")))
        return sum(self._decide(run) for run in waiting)

    def _decide(self, run: Any) -> int:
        from runs import decisions  # noqa: PLC0415
        from station.core.errors import Conflict  # noqa: PLC0415

        happened = {effect.key for effect in self.effects()}

        def verdict(call: Mapping[str, Any]) -> decisions.Decision:
            if f"{run.pk}:{call['step']}:{call['index']}" in happened:
                kind, result = decisions.Verdict.HAPPENED, "appended, as the sink shows"
            else:
                kind, result = decisions.Verdict.REPEAT, ""
            return decisions.Decision(call_id=call["call_id"], verdict=kind, result=result)

        def decide() -> int:
            chosen = [verdict(call) for call in decisions.open_calls(run)]
            decisions.decide(self.principal, run, chosen, why="The sink was looked at.")
            return len(chosen)

        try:
            return steady(decide)
        except Conflict:  # it was decided, and the answer was lost with the database
            return 0

    def effects(self) -> list[Effect]:
        """What the tool server has done so far."""
        if not self._stack.sink.exists():
            return []
        lines = self._stack.sink.read_text().splitlines()
        return [
            Effect(key=line["key"], at=datetime.fromtimestamp(line["at"], UTC))
            for line in map(json.loads, filter(lambda text: text.startswith("{"), lines))
        ]

    def records(self) -> list[RunRecord]:
        """Every run with its journal."""
        from runs.models import Run, RunEvent  # noqa: PLC0415

        rows = steady(lambda: list(Run.objects.order_by("pk")))
        journals: dict[int, list[Happening]] = {row.pk: [] for row in rows}
        for event in steady(lambda: list(RunEvent.objects.order_by("run_id", "seq"))):
            journals[event.run_id].append(
                Happening(seq=event.seq, kind=event.kind, at=event.at, payload=event.payload)
            )
        return [
            RunRecord(
                run_id=row.pk,
                status=row.status,
                fence=row.fence,
                last_seq=row.last_seq,
                journal=journals[row.pk],
                error=row.error_message,
            )
            for row in rows
        ]


def steady(work: Callable[[], T]) -> T:
    """``work()``, repeated while there is no database; only for work that may be repeated."""
    from django.db import InterfaceError, OperationalError, connection  # noqa: PLC0415

    deadline = time.monotonic() + _WITHOUT_DATABASE
    while True:
        try:
            return work()
        except (OperationalError, InterfaceError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        finally:
            connection.close()
