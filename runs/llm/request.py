"""From our request to chat-completions arguments."""

import json
from typing import Any

from runs.ports import Message, ModelBadRequest, ModelRequest

PARAMETERS = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "reasoning_effort",
        "verbosity",
        "thinking",
        "tool_choice",
        "parallel_tool_calls",
        "service_tier",
        "user",
    }
)
"""What an agent may set. A closed list: the client library also takes addresses, keys, callbacks
and mock answers as arguments, and an agent's author must not reach those."""


def arguments(request: ModelRequest, *, schema_supported: bool) -> dict[str, Any]:
    """Messages, tools and parameters in the protocol's shape.

    Args:
        schema_supported: the model takes an output schema natively; otherwise it is asked for in
            words, by a last system message.

    Raises:
        ModelBadRequest: a parameter that is not in :data:`PARAMETERS`.
    """
    if unknown := sorted(set(request.parameters) - PARAMETERS):
        raise ModelBadRequest(
            f"parameters: {', '.join(unknown)} cannot be set on a model request.",
            fix=f"Use only {', '.join(sorted(PARAMETERS))}.",
        )
    values: dict[str, Any] = dict(request.parameters)
    values["messages"] = [_message(message) for message in request.messages]
    if request.tools:
        values["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.input_schema),
                },
            }
            for tool in request.tools
        ]
    if request.output_schema is not None and schema_supported:
        values["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": dict(request.output_schema)},
        }
    elif request.output_schema is not None:
        schema = json.dumps(dict(request.output_schema), ensure_ascii=False)
        words = f"Your final answer must be JSON only, valid against this JSON schema: {schema}"
        values["messages"].append({"role": "system", "content": words})
    return values


def _message(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        return {
            "role": "tool",
            "tool_call_id": message.tool_call_id,
            "content": message.content,
        }
    if not message.tool_calls:
        return {"role": message.role, "content": message.content}
    calls = []
    for call in message.tool_calls:
        # Some providers parse the arguments of past calls, so broken ones must become JSON.
        text = call.raw_arguments
        if call.arguments is None:
            text = json.dumps({"malformed_arguments": call.raw_arguments}, ensure_ascii=False)
        function = {"name": call.name, "arguments": text.strip() or "{}"}
        calls.append({"id": call.id, "type": "function", "function": function})
    return {"role": message.role, "content": message.content or None, "tool_calls": calls}
