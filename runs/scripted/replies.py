"""The bodies the scripted server sends: OpenAI chat completions, whole or in pieces."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runs.scripted.scenario import Turn
from runs.scripted.template import Conversation, render

FINGERPRINT = "scripted-no-ai"
_WORDS = re.compile(r"\S+\s*|\s+")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One turn, its quotes filled in. ``tool_calls`` have the protocol's own shape."""

    identity: str
    model: str
    text: str
    tool_calls: list[dict[str, Any]]
    finish_reason: str
    usage: dict[str, Any]


def compose(turn: Turn, conversation: Conversation, *, model: str, prompt_size: int) -> Reply:
    """Fill a turn in. The same request gives the same reply, identifiers included.

    Args:
        prompt_size: length of the request in characters, for the estimated usage.
    """
    text = render(turn.say, conversation)
    text = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
    calls = []
    for index, call in enumerate(turn.tool_calls):
        arguments = call.raw_arguments
        if arguments is None:
            arguments = json.dumps(render(call.arguments, conversation), ensure_ascii=False)
        calls.append(
            {
                "id": f"call_{conversation.turn}_{index}",
                "type": "function",
                "function": {"name": call.name, "arguments": arguments},
            }
        )
    if turn.usage:
        used = (turn.usage.input_tokens, turn.usage.output_tokens, turn.usage.cached_tokens)
    else:
        used = (prompt_size // 4, (len(text) + sum(len(json.dumps(c)) for c in calls)) // 4, 0)
    return Reply(
        identity=f"chatcmpl-scripted-{conversation.turn}",
        model=model,
        text=text,
        tool_calls=calls,
        finish_reason=turn.finish_reason or ("tool_calls" if calls else "stop"),
        usage={
            "prompt_tokens": used[0],
            "completion_tokens": used[1],
            "total_tokens": used[0] + used[1],
            "prompt_tokens_details": {"cached_tokens": used[2]},
        },
    )


def whole(reply: Reply) -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.tool_calls:
        message["tool_calls"] = reply.tool_calls
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
    body = _head(reply, "chat.completion") | {"choices": [choice], "usage": reply.usage}
    return json.dumps(body).encode()


def pieces(reply: Reply, *, include_usage: bool) -> Iterator[bytes]:
    """The reply as server-sent events: one a word, two or more a tool call, then the end."""
    yield piece(reply, {"role": "assistant", "content": ""})
    for word in _WORDS.findall(reply.text):
        yield piece(reply, {"content": word})
    for index, call in enumerate(reply.tool_calls):
        function = call["function"]
        opening = {**call, "index": index, "function": {**function, "arguments": ""}}
        yield piece(reply, {"tool_calls": [opening]})
        arguments = function["arguments"]
        middle = max(len(arguments) // 2, 1)
        for part in filter(None, (arguments[:middle], arguments[middle:])):
            yield piece(reply, {"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    yield piece(reply, {}, reply.finish_reason)
    if include_usage:
        body = _head(reply, "chat.completion.chunk") | {"choices": [], "usage": reply.usage}
        yield event(json.dumps(body))
    yield event("[DONE]")


def piece(reply: Reply, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return event(json.dumps(_head(reply, "chat.completion.chunk") | {"choices": [choice]}))


def event(text: str) -> bytes:
    return f"data: {text}\n\n".encode()


def error_body(*, message: str, kind: str, code: str | None) -> bytes:
    return json.dumps(
        {"error": {"message": message, "type": kind, "param": None, "code": code}}
    ).encode()


def model_list(models: list[str]) -> bytes:
    entries = [{"id": m, "object": "model", "created": 0, "owned_by": "scripted"} for m in models]
    return json.dumps({"object": "list", "data": entries}).encode()


def _head(reply: Reply, kind: str) -> dict[str, Any]:
    return {
        "id": reply.identity,
        "object": kind,
        "created": 0,
        "model": reply.model,
        "system_fingerprint": FINGERPRINT,
    }
