"""Fakes of the loop's three Protocols, for tests that need no database, model or tool server."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from runs.entries import Entry, Event, Spent
from runs.errors import LeaseLost, ToolOutcomeUnknown
from runs.ports import (
    ModelAnswer,
    ModelFailure,
    ModelRequest,
    ToolCall,
    ToolOutcome,
    ToolSpec,
    Usage,
)


def answer(content: str = "", *calls: ToolCall) -> ModelAnswer:
    """A model's answer of 10 input and 5 output tokens."""
    return ModelAnswer(
        content=content,
        tool_calls=calls,
        usage=Usage(input_tokens=10, output_tokens=5),
        cost_usd=None,
        model="fake",
        finish_reason="tool_calls" if calls else "stop",
        duration=0.0,
        attempts=1,
    )


def call(name: str, arguments: Any = None, *, call_id: str = "") -> ToolCall:
    """A tool call; ``arguments`` that are a text stand for what a model wrote, JSON or not."""
    raw = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    return ToolCall(id=call_id or f"call-{name}", name=name, raw_arguments=raw)


@dataclass
class FakeModel:
    """Gives its answers in turn, and keeps what it was asked."""

    answers: Sequence[ModelAnswer | ModelFailure]
    requests: list[ModelRequest] = field(default_factory=list)

    async def ask(
        self,
        request: ModelRequest,
        *,
        on_delta: Callable[[str], None] | None = None,
        on_retry: Callable[[ModelFailure, float], None] | None = None,
        before_send: Callable[[], None] | None = None,
    ) -> ModelAnswer:
        if before_send is not None:
            before_send()
        self.requests.append(request)
        given = self.answers[len(self.requests) - 1]
        if isinstance(given, ModelFailure):
            raise given
        if on_delta is not None and given.content:
            on_delta(given.content)
        return given


@dataclass
class FakeToolbox:
    """Tools by name; one that returns ``None`` leaves its outcome unknown."""

    tools: Mapping[str, Callable[[dict[str, Any]], str | None]]
    repeatable: frozenset[str] = frozenset()
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)

    def specs(self) -> tuple[ToolSpec, ...]:
        return tuple(
            ToolSpec(name=name, description="", input_schema=self.schemas.get(name, {}))
            for name in sorted(self.tools)
        )

    def is_repeatable(self, name: str) -> bool:
        return name in self.repeatable

    async def call(
        self,
        name: str,
        arguments: dict[str, Any],
        *,
        key: str,
        timeout: float,
        before_send: Callable[[], None] | None = None,
    ) -> ToolOutcome:
        if before_send is not None:
            before_send()
        self.calls.append((name, arguments, key))
        text = self.tools[name](arguments)
        if text is None:
            raise ToolOutcomeUnknown
        return ToolOutcome(text=text, structured=None, is_error=False, truncated=False)


class MemoryJournal:
    """A journal in memory; :attr:`lost` makes every later use fail as if the lease were gone."""

    def __init__(self, history: Sequence[Event] = (), *, seconds: float = 60.0) -> None:
        self.run_id = 1
        self.history = tuple(history)
        self.events = list(history)
        self.spent: list[Spent] = []
        self.deltas: list[str] = []
        self.deadline = time.monotonic() + seconds
        self.lost = False

    async def append(self, *entries: Entry, spent: Spent | None = None) -> None:
        self.check_lease()
        for entry in entries:
            seq = len(self.events) + 1
            now = datetime.now(UTC)
            self.events.append(Event(seq=seq, kind=entry.kind, at=now, payload=entry.payload))
        if spent is not None:
            self.spent.append(spent)

    def check_lease(self) -> None:
        if self.lost:
            raise LeaseLost

    def delta(self, step: int, text: str) -> None:
        self.deltas.append(text)
