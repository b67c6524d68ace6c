"""Translating what the MCP SDK parsed into Station's own types, within Station's limits."""

import json
from typing import Any

import mcp_types as types

from toolservers.definition import JsonObject, ToolResult, ToolSpec
from toolservers.redaction import Redactor

HINTS = ("title", "readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")


def storable(text: str) -> str:
    """The text without what PostgreSQL and UTF-8 cannot hold: NUL and lone surrogates."""
    text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return text.encode("utf-8", "replace").decode("utf-8")


def storable_json(value: Any) -> Any:
    """The JSON value with every string, keys included, made :func:`storable`."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(key): storable_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [storable_json(item) for item in value]
    return value


def tool_spec(tool: types.Tool) -> ToolSpec:
    """The SDK's tool as a :class:`ToolSpec`."""
    hints: JsonObject = {}
    if tool.annotations is not None:
        given = tool.annotations.model_dump(by_alias=True, exclude_none=True)
        hints = {name: storable_json(given[name]) for name in HINTS if name in given}
    if tool.title and "title" not in hints:
        hints["title"] = storable(tool.title)
    return ToolSpec(
        name=storable(tool.name),
        description=storable(tool.description or ""),
        input_schema=storable_json(tool.input_schema),
        annotations=hints,
    )


def tool_result(result: types.CallToolResult, *, limit: int, redactor: Redactor) -> ToolResult:
    """The SDK's result as a :class:`ToolResult` of at most ``limit`` bytes of text (UTF-8).

    Structured content larger than ``limit`` (as JSON) is dropped. Images, audio and binary
    resources become a line that names their type and size.
    """
    structured = redactor.json(storable_json(result.structured_content))
    encoded = "" if structured is None else json.dumps(structured, ensure_ascii=False)
    too_large = len(encoded.encode()) > limit
    text = "\n".join(_as_text(block) for block in result.content)
    # Servers should repeat structured content as text; the model must see the answer if they don't.
    text = redactor.text(storable(text if result.content else encoded))
    raw = text.encode()
    if len(raw) > limit:
        text = raw[:limit].decode("utf-8", "ignore")
    return ToolResult(
        text=text,
        structured=None if too_large else structured,
        is_error=result.is_error,
        truncated=too_large or len(raw) > limit,
    )


def _as_text(block: types.ContentBlock) -> str:
    match block:
        case types.TextContent():
            return block.text
        case types.ImageContent() | types.AudioContent():
            return f"[{block.type}: {block.mime_type}, {_decoded_size(block.data)} bytes]"
        case types.ResourceLink():
            size = "" if block.size is None else f", {block.size} bytes"
            return f"[resource {block.uri}: {block.mime_type or 'unknown type'}{size}]"
        case types.EmbeddedResource():
            resource = block.resource
            kind = resource.mime_type or "unknown type"
            if isinstance(resource, types.TextResourceContents):
                return f"[resource {resource.uri}: {kind}]\n{resource.text}"
            return f"[resource {resource.uri}: {kind}, {_decoded_size(resource.blob)} bytes]"


def _decoded_size(base64_text: str) -> int:
    stripped = base64_text.rstrip("=")
    return len(stripped) * 3 // 4
