"""A modern server that wants to see arguments as headers: the call is sent again, once listed."""

import asyncio
from collections.abc import Sequence
from typing import Any

import mcp_types as types
import pytest
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from toolservers.listing import Endless, all_tools
from toolservers.sessions import _call

CALL = types.CallToolRequest(params=types.CallToolRequestParams(name="look", arguments={}))
LIMIT = 100_000


class Client:
    """Lists tools in pages, and answers a call once it has read all of them."""

    protocol_version = max(MODERN_PROTOCOL_VERSIONS)

    def __init__(self, pages: Sequence[Sequence[str]]) -> None:
        self.pages, self.read = pages, 0
        self.done: list[str] = []

    async def list_tools(self, *, params: Any) -> types.ListToolsResult:
        self.done.append("list")
        self.read += 1
        page = self.pages[int(params.cursor) if params else 0]
        tools = [types.Tool(name=name, input_schema={"type": "object"}) for name in page]
        following = None if self.read == len(self.pages) else str(self.read)
        return types.ListToolsResult(
            tools=tools, next_cursor=following, ttl_ms=0, cache_scope="private"
        )

    async def send_request(self, request: Any, kind: Any) -> Any:
        self.done.append("send")
        if self.read < len(self.pages):
            raise MCPError(types.HEADER_MISMATCH, "Show me.")
        return types.CallToolResult(content=[])


def called(client: Client, check: Any) -> Any:
    session: ClientSession = client  # type: ignore[assignment]
    return asyncio.run(_call(session, CALL, LIMIT, check))


def test_it_is_sent_again_when_every_page_is_read_and_the_lease_lasts() -> None:
    client = Client([["a"], [], ["look"]])
    called(client, lambda: client.done.append("check"))
    assert client.done == ["send", "list", "list", "list", "check", "send"]


def test_it_is_not_sent_again_without_a_lease() -> None:
    client = Client([["look"]])

    def check() -> None:
        raise RuntimeError("no lease")

    with pytest.raises(RuntimeError):
        called(client, check)
    assert client.done == ["send", "list"]


def test_a_list_of_empty_pages_has_an_end() -> None:
    client: Any = Client([[]] * 1_000)
    with pytest.raises(Endless):
        asyncio.run(all_tools(client, LIMIT))
    assert client.read <= 500
