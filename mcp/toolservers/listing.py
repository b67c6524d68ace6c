"""Which of the tools that a server lists Station can use, and why it leaves out the others.

A bad tool is not the fault of the good ones beside it: it is left out, and people are told. Only a
server of whose tools none is left is as good as none.
"""

import json
from collections.abc import Iterable

import mcp_types as types
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError

from toolservers.definition import LONGEST_TOOL_NAME, ToolList, ToolSpec
from toolservers.results import storable, tool_spec

MOST_TOOLS = 2_000
MOST_PAGES = 500
MOST_TOLD = 20
"""Tools that are named with a reason; more are counted."""
_LONGEST_NAME_TOLD = 80


class Endless(Exception):
    """The list has no end, or none that Station waits for."""


async def all_tools(client: ClientSession, limit: int) -> list[types.Tool]:
    """Every tool the server lists, in its order; ``limit`` is in bytes of JSON.

    Raises:
        MCPError: as of any request.
        Endless: it lists more than Station takes.
    """
    found: list[types.Tool] = []
    size = 0
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        try:
            page = await client.list_tools(
                params=types.PaginatedRequestParams(cursor=cursor) if cursor else None
            )
        except MCPError as error:
            if error.code == types.METHOD_NOT_FOUND and not found:
                # A server of resources or prompts only.
                return []
            raise
        found += page.tools
        size += sum(len(tool.model_dump_json()) for tool in page.tools)
        if size > limit:
            raise Endless(f"of more than {limit} bytes")
        if not page.next_cursor:
            return found
        # A page without tools may be followed by others: the SDK drops tools with bad headers.
        if len(found) > MOST_TOOLS or page.next_cursor == cursor:
            raise Endless("without an end")
        cursor = page.next_cursor
    raise Endless(f"on more than {MOST_PAGES} pages")


def usable(tools: Iterable[types.Tool]) -> ToolList:
    """The tools that can be stored and called, in the server's order, each name once.

    A tool that is listed again as it was (pages may overlap) is one tool. Of one that is listed
    again differently none is taken: only the server knows which of them a call would reach.
    """
    found: dict[str, ToolSpec] = {}
    left_out: dict[str, str] = {}
    for tool in tools:
        if tool.name in left_out:
            continue
        read = _read(tool)
        if isinstance(read, ToolSpec):
            if read.digest == found.setdefault(tool.name, read).digest:
                continue
            read = "it is listed more than once, with different definitions"
        found.pop(tool.name, None)
        left_out[tool.name] = read
    told = [f"{_quoted(name)}: {problem}" for name, problem in left_out.items()]
    if len(told) > MOST_TOLD:
        told[MOST_TOLD:] = [f"and {len(told) - MOST_TOLD} more"]
    return ToolList(tools=tuple(found.values()), left_out=tuple(told))


def _read(tool: types.Tool) -> ToolSpec | str:
    """The tool, or why the database could not hold it or a call not name it."""
    if not tool.name:
        return "it has no name"
    if len(tool.name) > LONGEST_TOOL_NAME:
        return f"its name has {len(tool.name)} characters; {LONGEST_TOOL_NAME} are the most"
    if storable(tool.name) != tool.name:
        return "its name holds NUL or half a character"
    try:
        json.dumps(tool.input_schema, allow_nan=False)
        return tool_spec(tool)
    except ValueError:
        return "its input schema holds a number that is not finite, or too long"
    except RecursionError:
        return "its input schema is nested too deeply"


def _quoted(name: str) -> str:
    return repr(name if len(name) <= _LONGEST_NAME_TOLD else f"{name[:_LONGEST_NAME_TOLD]}…")
