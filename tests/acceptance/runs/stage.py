"""What the tests of survival play with: agents whose models are scripted, and tools that count."""

import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.models import Agent
from runs.entries import Kind
from runs.models import Run, RunEvent
from runs.scripted.testing import ScriptedModel
from runs.states import TERMINAL
from station.accounts.models import Environment
from tests import factories
from tests.processes import until
from toolservers import services as toolservers
from toolservers.models import ToolServer

THINKING = 2.0
_numbers = itertools.count(1)


def call(tool: str, *, server: str = "tools", **arguments: Any) -> dict[str, Any]:
    """A turn in which the model calls one tool."""
    return {"tool_calls": [{"name": f"{server}__{tool}", "arguments": arguments}]}


_NOTE = call("append_line", text="{{input}}")
_DONE = {"say": "done"}
_NOTE_AND_LOOK = {"tool_calls": [*_NOTE["tool_calls"], *call("sleep", seconds=0.7)["tool_calls"]]}
SCRIPTS: list[dict[str, Any]] = [
    {"name": "answer", "turns": [_DONE]},
    {"name": "think", "turns": [{**_DONE, "delay": THINKING}]},
    {"name": "think-long", "turns": [{**_DONE, "delay": 60}]},
    {"name": "note", "turns": [_NOTE, _DONE]},
    {"name": "look-long", "turns": [call("sleep", seconds=60), _DONE]},
    {
        "name": "down-twice",
        "turns": [{**_DONE, "error": {"status": 503, "times": 2}}],
    },
    {"name": "note-16-times", "turns": [*[_NOTE_AND_LOOK] * 16, _DONE]},
    {"name": "who", "turns": [call("whoami"), call("env"), _DONE]},
]


class Stage:
    """An environment with a hostile tool server ``tools``, and agents named after their scripts."""

    def __init__(self, model: ScriptedModel, folder: Path) -> None:
        self.model = model
        self.environment: Environment = factories.environment(f"stage-{next(_numbers)}")
        self.sink = folder / f"{self.environment.name}.sink"
        self._agents: dict[tuple[str, Sequence[str]], Agent] = {}
        self.server = self.add_server(self.environment)

    def add_server(
        self,
        where: Environment,
        name: str = "tools",
        *,
        command: Sequence[str] = ("-m", "toolservers.testing"),
        env: Mapping[str, str] | None = None,
    ) -> ToolServer:
        """Register a hostile server; its effects are counted in the stage's sink."""
        # Not by the service: it asks the allow-list of this process instead of the workers'.
        return ToolServer.objects.create(
            environment=where,
            name=name,
            transport="stdio",
            command=sys.executable,
            args=[*command, "--sink", str(self.sink)],
            env=dict(env or {}),
        )

    def agent(self, script: str, tools: Sequence[str] = ("tools/*",)) -> Agent:
        """The agent that plays ``script``."""
        key = (script, tools)
        if key not in self._agents:
            self._agents[key] = factories.agent(
                self.environment, f"{script}-{len(tools)}", model=script, tools=list(tools)
            )
        return self._agents[key]

    def submit(self, script: str, *, tools: Sequence[str] = ("tools/*",), **request: Any) -> Run:
        """A queued run whose task is unlike any other."""
        return factories.run(self.agent(script, tools), f"task {next(_numbers)}", **request)

    def rehearse(self) -> None:
        """Have a worker discover the tools, and vouch for those that say they only look."""
        self.ended(self.submit("answer"), within=60)
        for tool in self.server.tools.filter(annotations__readOnlyHint=True):
            toolservers.approve(factories.OPERATOR, tool)

    def asked(self, run: Run) -> int:
        """How often a model was asked about the run's task."""
        return sum(
            any(message.get("content") == run.input for message in request.body["messages"])
            for request in self.model.requests
        )

    def effects(self, run: Run) -> int:
        """How often a tool had an effect for the run's task."""
        lines = self.sink.read_text().splitlines() if self.sink.exists() else []
        return lines.count(run.input)

    def ended(self, run: Run, *, within: float = 60.0) -> Run:
        """The run, once it is over."""
        until(lambda: status(run) in TERMINAL, within=within, what=f"the end of {run.input}")
        return Run.objects.get(pk=run.pk)


def status(run: Run) -> str:
    return Run.objects.values_list("status", flat=True).get(pk=run.pk)


def events(run: Run, kind: Kind | None = None) -> list[RunEvent]:
    """The journal of a run, or its entries of one kind."""
    rows = RunEvent.objects.filter(run_id=run.pk).order_by("seq")
    return list(rows if kind is None else rows.filter(kind=kind.value))


def gapless(run: Run) -> bool:
    """The journal counts from 1 to the row's last number."""
    last = Run.objects.values_list("last_seq", flat=True).get(pk=run.pk)
    return [event.seq for event in events(run)] == list(range(1, last + 1))
