"""The SDK's own client, and a worker that is a test's puppet."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp_types import CallToolResult, TextContent

from runs import bus, journal, queue, transitions
from runs.entries import Entry
from runs.moves import Moved
from runs.states import Status

DEADLINE = 20.0
LEASE = 20.0


@asynccontextmanager
async def connected(url: str, key: str, *, mode: str = "auto") -> AsyncIterator[Client]:
    """A client of the gateway at ``url`` that shows ``key``."""
    async with create_mcp_http_client(headers={"Authorization": f"Bearer {key}"}) as http:
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


def text(result: CallToolResult) -> str:
    return "\n".join(c.text for c in result.content if isinstance(c, TextContent))


async def in_database(work: Callable[[], Any]) -> Any:
    """``work()`` in a thread that keeps no connection."""

    def call() -> Any:
        try:
            return work()
        finally:
            connections.close_all()

    return await sync_to_async(call, thread_sensitive=False)()


async def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true answer of ``condition`` (which uses the ORM)."""
    deadline = time.monotonic() + DEADLINE
    while not (answer := await in_database(condition)):
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE} s"
        await asyncio.sleep(0.02)
    return answer


def claim() -> Moved | None:
    """Take the next run as a worker does."""
    try:
        moved = queue.claim("puppet", LEASE)
    except queue.Contended:
        return None
    if moved is not None:
        bus.announce({moved.run_id: moved.event})
    return moved


def step(owned: Moved, entry: Entry) -> None:
    for event in journal.append(owned.run_id, owned.fence, [entry]):
        bus.announce({owned.run_id: event})


def finish(
    owned: Moved,
    output: str = "",
    *,
    status: Status = Status.SUCCEEDED,
    error: tuple[str, str, str] = ("", "", ""),
    silently: bool = False,
) -> None:
    moved = transitions.finish(owned.run_id, owned.fence, status, output=output, error=error)
    assert moved is not None
    if not silently:
        bus.announce({moved.run_id: moved.event})
