"""What the tool servers offer right now, asked at most once per half minute and process."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial

import structlog

from runs.database import Units
from runs.errors import ToolsUnavailable
from toolservers import services as toolservers
from toolservers.definition import ServerDefinition, ToolSessions
from toolservers.errors import ToolServerError
from toolservers.models import ToolServer

_log = structlog.get_logger(__name__)
_FRESH = 30.0
_MOST_REMEMBERED = 10_000


class Catalog:
    """Discovers tools and stores what it finds; concurrent runs share one look at a server."""

    def __init__(self, sessions: ToolSessions, units: Units) -> None:
        self._sessions, self._units = sessions, units
        self._seen: dict[str, float] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}

    async def refresh(
        self, servers: Sequence[ToolServer], definitions: Sequence[ServerDefinition]
    ) -> None:
        """See to it that the stored tools of each server are at most half a minute old.

        Servers are asked side by side. One that cannot be reached keeps the tools it had.

        Raises:
            ToolsUnavailable: a server that was never discovered cannot be reached.
        """
        for server, definition in zip(servers, definitions, strict=True):
            key = definition.pool_key
            stale = time.monotonic() - self._seen.get(key, -_FRESH) >= _FRESH
            if stale and key not in self._looking:
                look = asyncio.create_task(self._look(server, definition))
                self._looking[key] = look
                look.add_done_callback(partial(self._looked, key))
        looks = [self._looking[d.pool_key] for d in definitions if d.pool_key in self._looking]
        # A shared look must outlive the one run that happens to be cancelled.
        await asyncio.gather(*(asyncio.shield(look) for look in looks))

    def _looked(self, key: str, _: asyncio.Task[None]) -> None:
        self._looking.pop(key, None)

    async def _look(self, server: ToolServer, definition: ServerDefinition) -> None:
        try:
            listed = await self._sessions.list_tools(definition)
        except ToolServerError as error:
            problem = str(error)
            await self._units.run(lambda: toolservers.store_failure(server, problem))
            if server.discovered_at is None:
                raise ToolsUnavailable(
                    f"Tool server {server.name!r} cannot be used: {problem}",
                    fix=f"`station mcp test {server.name}` tries it.",
                ) from error
            _log.warning("tool_server_unavailable", server=server.name, problem=problem)
            return
        if listed.left_out and list(listed.left_out) != server.left_out:
            _log.warning("tools_left_out", server=server.name, tools=listed.left_out)
        await self._units.run(lambda: toolservers.store_discovery(server, listed))
        if len(self._seen) > _MOST_REMEMBERED:
            self._seen.clear()
        self._seen[definition.pool_key] = time.monotonic()
