"""Lists of tools in pages, and calls for which the whole list has to be read first."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.toolservers.raw_http import INITIALIZED, Answer, answer, raw_http
from toolservers.errors import ToolServerMisbehaved
from toolservers.listing import MOST_PAGES
from toolservers.pool import SessionPool

Page = Callable[[int], dict[str, Any]]
HEADER_MISMATCH = -32020
DISCOVERED = {
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {}},
    "serverInfo": INITIALIZED["serverInfo"],
    "resultType": "complete",
    "ttlMs": 0,
    "cacheScope": "private",
}


def tool(name: str, header: str) -> dict[str, Any]:
    place = {"type": "string", "x-mcp-header": header}
    return {"name": name, "inputSchema": {"type": "object", "properties": {"place": place}}}


class PagedServer:
    """A server of the new era that wants the place of a call as a header, too."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.pages = 0
        self.places: list[str] = []
        """What the header of each call held."""

    async def __call__(self, method: str, headers: dict[str, str], body: bytes) -> Answer:
        request = json.loads(body)
        match request["method"]:
            case "server/discover":
                return answer(body, result=DISCOVERED)
            case "tools/list":
                self.pages += 1
                number = int(request["params"].get("cursor", "1"))
                shape = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
                return answer(body, result=shape | self.page(number))
        self.places.append(headers.get("mcp-param-place", ""))
        if not self.places[-1]:
            error = {"code": HEADER_MISMATCH, "message": "the place is missing"}
            _, said, content = answer(body, error=error)
            return 400, said, content
        result = {"resultType": "complete", "content": [{"type": "text", "text": "done"}]}
        return answer(body, result=result)


def two_pages(number: int) -> dict[str, Any]:
    """The client has to drop all the tools of the first page."""
    if number == 1:
        return {"tools": [tool("bad", "no header")], "nextCursor": "2"}
    return {"tools": [tool("good", "Place")]}


async def test_tools_behind_a_page_without_any_are_found(pool: SessionPool) -> None:
    async with raw_http(PagedServer(two_pages)) as definition:
        listed = await pool.list_tools(definition)
    assert [spec.name for spec in listed.tools] == ["good"]


async def test_pages_without_tools_have_an_end(pool: SessionPool) -> None:
    server = PagedServer(lambda number: {"tools": [], "nextCursor": str(number + 1)})
    async with raw_http(server, keeps_open=True) as definition:
        with pytest.raises(ToolServerMisbehaved, match=f"on more than {MOST_PAGES} pages"):
            await pool.list_tools(definition)
    assert server.pages == MOST_PAGES


async def test_a_call_that_needs_a_header_is_sent_again_when_all_pages_are_read(
    pool: SessionPool,
) -> None:
    checks: list[int] = []
    server = PagedServer(two_pages)
    async with raw_http(server) as definition:
        result = await pool.call(
            definition,
            "good",
            {"place": "Rome"},
            timeout=5,
            repeatable=False,
            before_send=lambda: checks.append(len(server.places)),
        )
    assert result.text == "done"
    assert server.places == ["", "Rome"]
    assert checks == [0, 1]


async def test_a_check_before_the_second_sending_can_end_the_call(pool: SessionPool) -> None:
    server = PagedServer(two_pages)

    def refuse() -> None:
        if server.pages:
            raise LookupError

    async with raw_http(server) as definition:
        with pytest.raises(LookupError):
            await pool.call(
                definition,
                "good",
                {"place": "Rome"},
                timeout=5,
                repeatable=False,
                before_send=refuse,
            )
    assert server.places == [""]
    assert server.pages == 2
