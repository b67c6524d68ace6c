"""The agent loop: ask the model, make the calls it wants, record, until it answers. Pure.

It knows neither the database nor litellm nor MCP: it speaks to three small Protocols. Every
effect is announced in the journal before it is made, so that a run can be taken up anywhere.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from runs.entries import Entry, Event, Kind, Spent
from runs.errors import OutputInvalid, StepLimitReached, ToolOutcomeUnknown
from runs.ports import (
    ModelAnswer,
    ModelClient,
    ModelFailure,
    ModelRequest,
    Toolbox,
)
from runs.replay import Brief, OpenCall, Story
from station.core import strict_json
from station.core.json_schema import InvalidSchema, schema_of

_MOST_CALLS = 64
_LARGEST_ARGUMENTS = 256 * 1024


class Journal(Protocol):
    """The loop's memory. ``runs.execution`` has the real one, ``runs.testing`` a fake."""

    @property
    def run_id(self) -> int:
        """The run whose journal it is."""

    @property
    def history(self) -> Sequence[Event]:
        """What was recorded before this execution began."""

    async def append(self, *entries: Entry, spent: Spent | None = None) -> None:
        """Store the entries, all or none. Raises ``LeaseLost`` when the run is no longer ours."""

    def check_lease(self) -> None:
        """Called just before anything is sent. Raises ``LeaseLost``."""

    def delta(self, step: int, text: str) -> None:
        """Tell followers what the model is saying; not recorded."""

    @property
    def deadline(self) -> float:
        """The monotonic time at which the run's running time is used up."""


@dataclass(frozen=True, kw_only=True)
class Finish:
    """The agent answered. ``last`` and ``spent`` are still to be stored, with the ending."""

    output: str
    output_data: Any = None
    last: Entry
    spent: Spent


@dataclass(frozen=True, kw_only=True)
class Pause:
    """A person has to decide about these calls; until then the run holds no worker."""

    reason: str
    calls: tuple[OpenCall, ...]


async def run_agent(
    brief: Brief, *, model: ModelClient, tools: Toolbox, journal: Journal
) -> Finish | Pause:
    """Carry a run from where its journal stands to an answer or a pause.

    Raises:
        RunFailure: the run cannot succeed (steps used up, answer invalid, …).
        ModelFailure: the model could not be asked.
        LeaseLost: another worker owns the run now.
    """
    story = Story(brief, journal.history)
    while True:
        doubtful = await _make_calls(story, tools, journal)
        if doubtful:
            return Pause(reason="doubt", calls=doubtful)
        if story.steps >= brief.max_steps:
            raise StepLimitReached(
                f"The agent used its {brief.max_steps} steps without finishing.",
                fix="Raise max_steps, or make the task smaller.",
            )
        answer = await _ask(brief, story, model, tools, journal)
        entry = _answered(story.steps + 1, answer)
        spent = _spent(answer)
        if answer.tool_calls:
            await _record_calls(story, entry, spent, tools, journal)
            continue
        output_data, problem = _check_output(brief, answer.content)
        if problem is None:
            return Finish(output=answer.content, output_data=output_data, last=entry, spent=spent)
        rejected = Entry(kind=Kind.OUTPUT_REJECTED, payload={"problem": problem})
        await _record(story, journal, entry, rejected, spent=spent)
        if story.repairs > 1:
            raise OutputInvalid(f"The agent's answer does not match its output schema: {problem}")


async def _ask(
    brief: Brief, story: Story, model: ModelClient, tools: Toolbox, journal: Journal
) -> ModelAnswer:
    step = story.steps + 1
    appends: list[asyncio.Future[None]] = []

    def retried(failure: ModelFailure, wait: float) -> None:
        payload = {"step": step, "code": failure.code, "message": failure.message, "wait": wait}
        entry = Entry(kind=Kind.MODEL_RETRIED, payload=payload)
        appends.append(asyncio.ensure_future(journal.append(entry)))

    request = ModelRequest(
        model=brief.model,
        fallback_models=brief.fallback_models,
        messages=story.messages(),
        tools=tools.specs(),
        parameters=brief.parameters,
        output_schema=brief.output_schema,
        deadline=journal.deadline,
    )
    try:
        return await model.ask(
            request,
            on_delta=lambda text: journal.delta(step, text),
            on_retry=retried,
            before_send=journal.check_lease,
        )
    finally:
        await asyncio.gather(*appends)


async def _record_calls(
    story: Story, answer: Entry, spent: Spent, tools: Toolbox, journal: Journal
) -> None:
    """Store an answer that asks for tools, in one go with the intents of its calls.

    Calls that cannot be made (no such tool, malformed arguments) get their error as result at
    once: the model reads it and can do better.
    """
    story.add(answer.kind, answer.payload)
    await _announce(story, story.open_calls, tools, journal, before=answer, spent=spent)


async def _make_calls(story: Story, tools: Toolbox, journal: Journal) -> tuple[OpenCall, ...]:
    """Make the open calls of the last answer, in parallel; return those left in doubt.

    A call announced by an earlier execution is announced again before it is repeated, and it is
    repeated only when its tool says that this is harmless or a person said that it did not happen.
    Whose tool is gone meanwhile gets its error as result.
    """
    again = [
        call
        for call in story.open_calls
        if not call.ready and (not call.in_doubt or tools.is_repeatable(call.call.name))
    ]
    if again:
        await _announce(story, again, tools, journal)
    try:
        async with asyncio.TaskGroup() as group:
            for call in story.open_calls:
                if call.ready:
                    group.create_task(_make_call(call, story, tools, journal))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return tuple(story.open_calls)


async def _announce(
    story: Story,
    calls: Sequence[OpenCall],
    tools: Toolbox,
    journal: Journal,
    *,
    before: Entry | None = None,
    spent: Spent | None = None,
) -> None:
    """Store the intents of calls that are to be made, or the results of those that cannot be."""
    announced = list(calls)
    problems = []
    for call in announced:
        problems.append(_refusal(call, tools))
        await asyncio.sleep(0)  # looking at one may take tenths of a second; others are waiting
    entries = [
        call.intent() if problem is None else call.result(problem, error=True)
        for call, problem in zip(announced, problems, strict=True)
    ]
    await _record(story, journal, *entries, before=before, spent=spent)
    for call in announced:
        call.ready = True


async def _make_call(call: OpenCall, story: Story, tools: Toolbox, journal: Journal) -> None:
    """Send one announced call and record its result; without a known outcome it stays open."""
    call.ready = False
    begun = time.monotonic()
    try:
        outcome = await tools.call(
            call.call.name,
            call.call.arguments or {},
            key=f"{journal.run_id}:{call.step}:{call.index}",
            timeout=max(journal.deadline - begun, 0.0),
            before_send=journal.check_lease,
        )
    except ToolOutcomeUnknown:
        return
    result = call.result(
        outcome.text,
        error=outcome.is_error,
        truncated=outcome.truncated,
        duration=round(time.monotonic() - begun, 3),
    )
    await _record(story, journal, result)


async def _record(
    story: Story,
    journal: Journal,
    *entries: Entry,
    before: Entry | None = None,
    spent: Spent | None = None,
) -> None:
    """Store entries and take them into the story (``before`` is in the story already)."""
    await journal.append(*((before,) if before else ()), *entries, spent=spent)
    for entry in entries:
        story.add(entry.kind, entry.payload)


def _refusal(call: OpenCall, tools: Toolbox) -> str | None:
    """Why a call the model asked for cannot be made, in words for the model; ``None`` if it can."""
    if call.index >= _MOST_CALLS:
        return f"more than {_MOST_CALLS} calls in one answer; ask for fewer at a time"
    if len(call.call.raw_arguments) > _LARGEST_ARGUMENTS:
        return f"the arguments are longer than {_LARGEST_ARGUMENTS} characters"
    spec = next((spec for spec in tools.specs() if spec.name == call.call.name), None)
    if spec is None:
        names = ", ".join(spec.name for spec in tools.specs()) or "none"
        return f"there is no tool {call.call.name!r}; there are: {names}"
    try:
        arguments = call.call.read_arguments()
    except ValueError as error:
        return f"the arguments are not a JSON object: {error}"
    return _violation(spec.input_schema, arguments)


def _violation(schema: Mapping[str, Any], value: Any) -> str | None:
    """What in ``value`` does not match the schema; ``None`` when it does, or that cannot be found.

    A tool's schema is what its server says; the server itself refuses what it does not take.
    """
    try:
        found = schema_of(schema).violation(value)
    except InvalidSchema:
        return None
    return None if found is None else str(found)


def _check_output(brief: Brief, content: str) -> tuple[Any, str | None]:
    """``(value, problem)`` of the final answer under the agent's output schema, if it has one."""
    if brief.output_schema is None:
        return None, None
    try:
        value = strict_json.loads(_unfenced(content))
    except ValueError as error:
        return None, f"it is not JSON ({error})"
    return value, _violation(brief.output_schema, value)


def _unfenced(content: str) -> str:
    """The JSON inside a Markdown code fence, which models like to put around it."""
    text = content.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text[text.index("\n") : -3]
    return text


def _answered(step: int, answer: ModelAnswer) -> Entry:
    ids = [call.id for call in answer.tool_calls]
    usable = len(set(ids)) == len(ids) and all(ids)
    return Entry(
        kind=Kind.MODEL_ANSWERED,
        payload={
            "step": step,
            "content": answer.content,
            "tool_calls": [
                {
                    "id": call.id if usable else f"call_{step}_{index}",
                    "name": call.name,
                    "arguments": call.raw_arguments,
                }
                for index, call in enumerate(answer.tool_calls)
            ],
            "model": answer.model,
            "finish_reason": answer.finish_reason,
            "input_tokens": answer.usage.input_tokens,
            "output_tokens": answer.usage.output_tokens,
            "cached_tokens": answer.usage.cached_tokens,
            "cost_usd": None if answer.cost_usd is None else str(answer.cost_usd),
            "duration": round(answer.duration, 3),
            "attempts": answer.attempts,
        },
    )


def _spent(answer: ModelAnswer) -> Spent:
    return Spent(
        steps=1,
        input_tokens=answer.usage.input_tokens,
        output_tokens=answer.usage.output_tokens,
        cost_usd=answer.cost_usd or Decimal(0),
    )
