"""From a provider's bytes to an answer: server-sent events, their assembly, the bound on size."""

import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runs.ports import ContentRefused, ModelMalformed, ModelUnavailable, ToolCall, Usage

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""The most that is read of one answer, protocol included."""


_MOST_TOKENS = 10**9


class AnswerTooLarge(Exception):
    """The body of one answer went past :data:`MAX_ANSWER_BYTES`."""


def too_large() -> ModelMalformed:
    return ModelMalformed(
        f"The model's answer is larger than {MAX_ANSWER_BYTES // 1024 // 1024} MiB.",
        permanent=True,
    )


async def stream_events(parts: AsyncIterable[bytes]) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of a server-sent event stream, until ``[DONE]`` or the end.

    Reads ``data:`` lines only, by https://html.spec.whatwg.org/multipage/server-sent-events.html
    as far as chat completions use it: one line an event, LF or CRLF.

    Raises:
        ModelMalformed: a data line that is no JSON object, or that tells of an error.
    """
    rest = b""
    async for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            text = line[5:].strip()
            if text == b"[DONE]":
                return
            yield _event(text)


def _event(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ModelMalformed("The model's stream holds an event that is no JSON object.")
    return value


@dataclass
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass
class Assembly:
    """An answer being put together, from stream chunks or from one whole completion.

    Both come as dicts in the protocol's shape; members a provider adds are passed over.
    """

    on_delta: Callable[[str], None] | None = None
    on_begin: Callable[[], None] | None = None
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    pieces: int = 0
    """How many chunks or completions were taken in."""
    _text: list[str] = field(default_factory=list)
    _refusal: list[str] = field(default_factory=list)
    _calls: dict[int, _Call] = field(default_factory=dict)
    _choices: int = 0
    _size: int = 0

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Take in a stream chunk or a completion.

        Raises:
            ModelMalformed: it does not have the protocol's shape, or the answer grew too large.
            ModelUnavailable: the provider reports an error in the stream.
        """
        if error := chunk.get("error"):
            reason = error.get("message") if isinstance(error, dict) else error
            raise ModelUnavailable(f"The model's stream reports an error: {reason}")
        self.pieces += 1
        if self.pieces == 1 and self.on_begin:
            self.on_begin()
        try:
            if usage := chunk.get("usage"):
                self.usage = _usage(usage)
            for choice in (chunk.get("choices") or [])[:1]:
                self._add_choice(choice)
        except (AttributeError, TypeError, ValueError, KeyError, OverflowError) as error:
            raise ModelMalformed(
                "The model's answer does not have the protocol's shape."
            ) from error
        if self._size > MAX_ANSWER_BYTES:
            raise too_large()

    def _add_choice(self, choice: Mapping[str, Any]) -> None:
        self._choices += 1
        part = choice.get("delta") or choice.get("message") or {}
        if text := part.get("content"):
            if not isinstance(text, str):
                raise TypeError("content")
            self._text.append(text)
            self._size += len(text)
            if self.on_delta:
                self.on_delta(text)
        if refusal := part.get("refusal"):
            self._refusal.append(str(refusal))
        for position, piece in enumerate(part.get("tool_calls") or ()):
            index = piece.get("index")
            call = self._calls.setdefault(position if index is None else int(index), _Call())
            function = piece.get("function") or {}
            call.id = piece.get("id") or call.id
            call.name = function.get("name") or call.name
            written = function.get("arguments") or ""
            if not isinstance(written, str):
                raise TypeError("arguments")
            call.arguments.append(written)
            self._size += len(written)
        self.finish_reason = choice.get("finish_reason") or self.finish_reason

    @property
    def text(self) -> str:
        return "".join(self._text)

    def finish(self) -> tuple[ToolCall, ...]:
        """Check that the answer is whole. Returns its tool calls in the model's order.

        Raises:
            ContentRefused: the model or a filter refused.
            ModelMalformed: nothing was answered, or a tool call without name.
            ModelUnavailable: the answer stopped before its end.
        """
        if self._refusal:
            raise ContentRefused(f"The model refused: {''.join(self._refusal)[:500]}")
        if self.finish_reason == "content_filter":
            raise ContentRefused("The model's answer was stopped by its content filter.")
        if self.finish_reason is None:
            if not self._choices:
                raise ModelMalformed("The model's answer holds no choice.")
            raise ModelUnavailable("The model's answer stopped before its end.")
        calls = []
        for index, call in sorted(self._calls.items()):
            if not call.name:
                raise ModelMalformed("The model asked for a tool call without a name.")
            calls.append(
                ToolCall(
                    id=call.id or f"call_{index}",
                    name=call.name,
                    raw_arguments="".join(call.arguments),
                )
            )
        return tuple(calls)


def _usage(usage: Mapping[str, Any]) -> Usage:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    return Usage(
        input_tokens=_tokens(usage.get("prompt_tokens")),
        output_tokens=_tokens(usage.get("completion_tokens")),
        cached_tokens=_tokens(cached),
    )


def _tokens(count: Any) -> int:
    tokens = int(count or 0)
    if not 0 <= tokens <= _MOST_TOKENS:
        raise ValueError("tokens")
    return tokens
