"""Results and tools as the SDK parses them become Station's, within its limits."""

import mcp_types as types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolservers.definition import ToolResult
from toolservers.redaction import MASK, Redactor
from toolservers.results import storable_json, tool_result, tool_spec


def translate(
    *blocks: types.ContentBlock, limit: int = 1_000, secrets: tuple[str, ...] = (), **more: object
) -> ToolResult:
    answer = types.CallToolResult.model_validate({"content": list(blocks), **more})
    return tool_result(answer, limit=limit, redactor=Redactor(secrets))


def text(value: str) -> types.TextContent:
    return types.TextContent(text=value)


def test_texts_are_joined_by_lines() -> None:
    assert translate(text("a"), text("b")) == ToolResult(text="a\nb")


def test_what_is_not_text_is_named_with_its_type_and_size() -> None:
    blob = types.BlobResourceContents(uri="x:/b", mime_type="application/pdf", blob="AAAAAA==")
    note = types.TextResourceContents(uri="x:/t", mime_type="text/plain", text="inside")
    result = translate(
        types.ImageContent(data="AAAA", mime_type="image/png"),
        types.AudioContent(data="AAA=", mime_type="audio/wav"),
        types.ResourceLink(uri="x:/l", name="l", mime_type="text/csv", size=7),
        types.EmbeddedResource(resource=blob),
        types.EmbeddedResource(resource=note),
    )
    assert result.text.splitlines() == [
        "[image: image/png, 3 bytes]",
        "[audio: audio/wav, 2 bytes]",
        "[resource x:/l: text/csv, 7 bytes]",
        "[resource x:/b: application/pdf, 4 bytes]",
        "[resource x:/t: text/plain]",
        "inside",
    ]


@given(st.text(max_size=50), st.integers(min_value=0, max_value=60))
def test_text_never_exceeds_the_limit_and_says_when_it_was_cut(value: str, limit: int) -> None:
    result = translate(text(value), limit=limit)
    assert len(result.text.encode()) <= limit
    assert result.truncated == (len(value.encode("utf-8", "replace")) > limit)


def test_structured_content_is_kept_and_shown_if_there_is_no_text() -> None:
    result = translate(structuredContent={"n": [1, None]})
    assert result.structured == {"n": [1, None]}
    assert result.text == '{"n": [1, null]}'


def test_structured_content_beyond_the_limit_is_dropped() -> None:
    result = translate(text("short"), limit=100, structuredContent={"n": "x" * 200})
    assert result == ToolResult(text="short", structured=None, truncated=True)


def test_secrets_do_not_come_back_in_results() -> None:
    result = translate(
        text("it is hunter2"), secrets=("hunter2",), structuredContent={"hunter2": "hunter2"}
    )
    assert result.text == f"it is {MASK}"
    assert result.structured == {MASK: MASK}


def test_a_tools_own_failure_is_a_result() -> None:
    assert translate(text("no such file"), isError=True).is_error


@pytest.mark.parametrize("bad", ["a\x00b", "a\ud800b"])
def test_what_postgresql_cannot_store_is_replaced(bad: str) -> None:
    stored = storable_json({bad: [bad]})
    (key,) = stored
    assert "\x00" not in key
    key.encode()
    assert stored[key] == [key]


def test_a_tool_keeps_the_hints_its_server_gave_and_no_others() -> None:
    tool = types.Tool.model_validate(
        {
            "name": "t",
            "title": "Title",
            "inputSchema": {"type": "object"},
            "annotations": {"readOnlyHint": True, "somethingElse": 1},
        }
    )
    spec = tool_spec(tool)
    assert spec.annotations == {"readOnlyHint": True, "title": "Title"}
    assert spec.description == ""
