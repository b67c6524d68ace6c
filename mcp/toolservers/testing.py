"""For tests: a fake of the session pool, and (run as a module) a server that misbehaves.

``python -m toolservers.testing --sink FILE`` serves the tools of :mod:`toolservers.hostile` over
stdio; ``--http PORT`` (at /mcp) or ``--sse PORT`` (at /sse) on 127.0.0.1, port 0 for any free one,
printed as ``listening on PORT``. ``--ignore-sigterm``, ``--hang-handshake``, ``--crash-handshake``.
"""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from toolservers.definition import (
    JsonObject,
    ServerDefinition,
    ServerReport,
    ServerState,
    ToolList,
    ToolResult,
    ToolSpec,
)
from toolservers.errors import ToolRefused

Handler = Callable[[JsonObject], ToolResult | str | Awaitable[ToolResult | str]]


@dataclass(frozen=True, kw_only=True)
class FakeCall:
    """A call that :class:`FakeSessionPool` received."""

    environment_id: int
    server: str
    tool: str
    arguments: JsonObject
    timeout: float
    repeatable: bool
    meta: JsonObject | None


@dataclass
class FakeSessionPool:
    """A session pool whose servers are Python functions, found by the definition's name.

    A handler gets the arguments and returns a :class:`ToolResult` or its text, at once or
    awaited; what it raises, the call raises. Unknown servers and tools are refused.
    """

    servers: dict[str, dict[str, Handler]] = field(default_factory=dict)
    specs: dict[str, list[ToolSpec]] = field(default_factory=dict)
    calls: list[FakeCall] = field(default_factory=list)
    closed: bool = False

    def add_tool(
        self,
        server: str,
        name: str,
        handler: Handler,
        *,
        description: str = "",
        input_schema: JsonObject | None = None,
        annotations: JsonObject | None = None,
    ) -> ToolSpec:
        """Give a server a tool; creates the server if it is new."""
        spec = ToolSpec(
            name=name,
            description=description,
            input_schema=input_schema or {"type": "object"},
            annotations=annotations or {},
        )
        self.servers.setdefault(server, {})[name] = handler
        self.specs.setdefault(server, []).append(spec)
        return spec

    async def list_tools(self, definition: ServerDefinition) -> ToolList:
        return ToolList(tools=tuple(self.specs.get(definition.name, ())))

    async def call(
        self,
        definition: ServerDefinition,
        tool: str,
        arguments: JsonObject,
        *,
        timeout: float,
        repeatable: bool,
        meta: JsonObject | None = None,
        before_send: Callable[[], None] | None = None,
    ) -> ToolResult:
        if before_send is not None:
            before_send()
        self.calls.append(
            FakeCall(
                environment_id=definition.environment_id,
                server=definition.name,
                tool=tool,
                arguments=arguments,
                timeout=timeout,
                repeatable=repeatable,
                meta=meta,
            )
        )
        handler = self.servers.get(definition.name, {}).get(tool)
        if handler is None:
            raise ToolRefused(f"Tool server {definition.name} refused: unknown tool {tool}")
        answer: Any = handler(arguments)
        if inspect.isawaitable(answer):
            answer = await answer
        return ToolResult(text=answer) if isinstance(answer, str) else answer

    async def probe(self, definition: ServerDefinition) -> ServerReport:
        return ServerReport(
            protocol_version="fake",
            server_name=definition.name,
            server_version="0",
            listed=await self.list_tools(definition),
            connect_seconds=0.0,
            latency=0.0,
        )

    async def close(self) -> None:
        self.closed = True

    def states(self) -> list[ServerState]:
        return []


if __name__ == "__main__":
    from toolservers.hostile import main

    main()
