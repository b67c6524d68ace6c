"""What the client side knows of a tool server: its resolved definition, its tools, its answers.

Nothing here imports the MCP SDK (1.4 s of CPU) or Django, so any process may import it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

Transport = Literal["stdio", "http", "sse"]
JsonObject = dict[str, Any]
LONGEST_TOOL_NAME = 200
"""Characters."""


def canonical_json(value: object) -> bytes:
    """The one JSON text of a value (sorted keys, no spaces), for digests."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


@dataclass(frozen=True, kw_only=True)
class ServerDefinition:
    """A tool server of one environment, every placeholder already replaced by its value.

    ``request_timeout`` is in seconds and bounds connecting; calls bring a time-out of their own.
    ``secrets`` are the secret values that were substituted: they are only used to redact what the
    server writes. The ``repr`` shows no value that can hold a secret.
    """

    server_id: int
    environment_id: int
    name: str
    transport: Transport
    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    request_timeout: float = 30.0
    secrets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Sessions are pooled by the hash of this; a caller's dict must not change under it.
        object.__setattr__(self, "env", MappingProxyType(dict(self.env)))
        object.__setattr__(self, "headers", MappingProxyType(dict(self.headers)))

    def __repr__(self) -> str:
        return (
            f"ServerDefinition(server_id={self.server_id}, environment_id={self.environment_id}, "
            f"name={self.name!r}, transport={self.transport!r}, where={self.where!r})"
        )

    @property
    def where(self) -> str:
        """The command or the URL's origin: enough to recognise it, too little to leak a secret."""
        if self.transport == "stdio":
            return self.command
        try:
            parts = urlsplit(self.url)
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            return "(not a URL)"
        return f"{parts.scheme}://{parts.hostname or ''}{port}"

    @cached_property
    def pool_key(self) -> str:
        """The name under which sessions of exactly this definition are shared.

        The environment's id and the *full* SHA-256 of everything resolved: two environments, or
        two values of one secret, never share a process or a connection.
        """
        resolved = {
            "server_id": self.server_id,
            "environment_id": self.environment_id,
            "name": self.name,
            "transport": self.transport,
            "command": self.command,
            "args": self.args,
            "env": dict(self.env),
            "url": self.url,
            "headers": dict(self.headers),
            "request_timeout": self.request_timeout,
            "secrets": self.secrets,
        }
        return f"{self.environment_id}:{hashlib.sha256(canonical_json(resolved)).hexdigest()}"


@dataclass(frozen=True, kw_only=True)
class ToolSpec:
    """A tool as its server describes it.

    ``annotations`` holds the hints the server gave of ``title``, ``readOnlyHint``,
    ``destructiveHint``, ``idempotentHint`` and ``openWorldHint``; they are claims, not facts.
    """

    name: str
    description: str
    input_schema: JsonObject
    annotations: JsonObject

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the whole description: it changes when the server changes its story."""
        return hashlib.sha256(
            canonical_json([self.name, self.description, self.input_schema, self.annotations])
        ).hexdigest()


@dataclass(frozen=True, kw_only=True)
class ToolList:
    """What a server lists: the tools that can be used, and a line for each of those that cannot."""

    tools: tuple[ToolSpec, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ToolResult:
    """A tool's answer.

    ``text`` is what the model reads; ``structured`` any JSON value the tool added. ``is_error``
    is the tool's own verdict. ``truncated``: ``text`` was cut at the output limit, or
    ``structured`` was dropped for exceeding it.
    """

    text: str
    structured: Any | None = None
    is_error: bool = False
    truncated: bool = False


@dataclass(frozen=True, kw_only=True)
class ServerReport:
    """What a probe of a server found. Times are in seconds."""

    protocol_version: str
    server_name: str
    server_version: str
    listed: ToolList
    connect_seconds: float
    latency: float
    """The time ``tools/list`` took on the fresh session."""


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """The health of one server as this process last saw it (``station_mcp_server_up``)."""

    environment_id: int
    name: str
    up: bool
    sessions: int
    last_error: str


class ToolSessions(Protocol):
    """What the rest of Station needs of the session pool; its fake is in ``testing``."""

    async def list_tools(self, definition: ServerDefinition) -> ToolList: ...

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
    ) -> ToolResult: ...

    async def probe(self, definition: ServerDefinition) -> ServerReport: ...

    async def close(self) -> None: ...

    def states(self) -> list[ServerState]: ...
