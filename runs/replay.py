"""From a journal back to a conversation: resuming a run is replaying what is recorded. Pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runs.entries import Entry, Event, Kind
from runs.ports import Message, ToolCall

_SCHEMA_ORDER = (
    "\n\nGive your final answer as one JSON value that matches this JSON Schema, and nothing "
    "else around it:\n"
)
_REPAIR_ORDER = (
    "That answer does not match the required JSON Schema: {problem}\n"
    "Answer again with only the corrected JSON value."
)


@dataclass(frozen=True, kw_only=True)
class Brief:
    """What one run asks of the agent: the version's definition and the request."""

    run_id: int
    prompt: str
    input: str
    data: Mapping[str, Any] = field(default_factory=dict)
    model: str
    fallback_models: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    output_schema: Mapping[str, Any] | None = None
    max_steps: int = 25


@dataclass(kw_only=True)
class OpenCall:
    """A tool call of the last answer that has no result yet."""

    step: int
    index: int
    call: ToolCall
    sends: int = 0
    """How often its intent was journaled."""
    cleared: bool = False
    """A person said that it did not happen and is to be made again."""
    ready: bool = False
    """This very execution stored its intent and has not sent it yet."""

    @property
    def in_doubt(self) -> bool:
        """Whether it may have happened: its intent is recorded and nobody knows the outcome."""
        return self.sends > 0 and not self.cleared and not self.ready

    def intent(self) -> Entry:
        """The entry that must be stored before the call is sent."""
        return Entry(
            kind=Kind.TOOL_CALLED,
            payload={
                "step": self.step,
                "index": self.index,
                "call_id": self.call.id,
                "tool": self.call.name,
                "arguments": self.call.arguments,
                "attempt": self.sends + 1,
            },
        )

    def result(self, text: str, *, error: bool, **details: Any) -> Entry:
        """The entry that closes the call."""
        return Entry(
            kind=Kind.TOOL_RETURNED,
            payload={
                "step": self.step,
                "index": self.index,
                "call_id": self.call.id,
                "tool": self.call.name,
                "text": text,
                "is_error": error,
                **details,
            },
        )


class Story:
    """The conversation so far, grown one journal entry at a time."""

    def __init__(self, brief: Brief, history: Iterable[Event] = ()) -> None:
        self.steps = 0
        self.repairs = 0
        self.open_calls: list[OpenCall] = []
        self._opening = _opening(brief)
        self._turns: list[Message] = []
        self._results: dict[str, Message] = {}
        self._order: list[str] = []
        for event in history:
            self.add(event.kind, event.payload)

    def messages(self) -> tuple[Message, ...]:
        """What the model is to see."""
        return (*self._opening, *self._turns)

    def add(self, kind: Kind, payload: Mapping[str, Any]) -> None:
        """Take one entry, recorded or just now written, into the story."""
        match kind:
            case Kind.MODEL_ANSWERED:
                self._answered(payload)
            case Kind.TOOL_CALLED:
                call = self._open(payload["call_id"])
                call.sends += 1
                call.cleared = False
            case Kind.TOOL_RETURNED:
                self._returned(payload["call_id"], payload["text"], error=payload["is_error"])
            case Kind.DECIDED if payload.get("call_id"):
                self._decided(payload)
            case Kind.OUTPUT_REJECTED:
                self.repairs += 1
                order = _REPAIR_ORDER.format(problem=payload["problem"])
                self._turns.append(Message(role="user", content=order))

    def _answered(self, payload: Mapping[str, Any]) -> None:
        self.steps = payload["step"]
        calls = tuple(
            ToolCall(
                id=call["id"],
                name=call["name"],
                raw_arguments=call["arguments"],
            )
            for call in payload["tool_calls"]
        )
        self._turns.append(Message(role="assistant", content=payload["content"], tool_calls=calls))
        self._order = [call.id for call in calls]
        self._results = {}
        self.open_calls = [
            OpenCall(step=self.steps, index=index, call=call) for index, call in enumerate(calls)
        ]

    def _returned(self, call_id: str, text: str, *, error: bool) -> None:
        call = self._open(call_id)
        self.open_calls.remove(call)
        content = f"Error: {text}" if error else text
        self._results[call_id] = Message(role="tool", content=content, tool_call_id=call_id)
        if not self.open_calls:
            self._turns.extend(self._results[each] for each in self._order)

    def _decided(self, payload: Mapping[str, Any]) -> None:
        if payload["decision"] == "happened":
            self._returned(payload["call_id"], payload.get("result", ""), error=False)
        elif payload["decision"] == "repeat":
            self._open(payload["call_id"]).cleared = True

    def _open(self, call_id: str) -> OpenCall:
        return next(call for call in self.open_calls if call.call.id == call_id)


def _opening(brief: Brief) -> tuple[Message, ...]:
    prompt = brief.prompt
    if brief.output_schema is not None:
        prompt += _SCHEMA_ORDER + json.dumps(brief.output_schema)
    task = brief.input
    if brief.data:
        task += f"\n\nData:\n{json.dumps(brief.data, ensure_ascii=False, indent=1)}"
    return (Message(role="system", content=prompt), Message(role="user", content=task))
