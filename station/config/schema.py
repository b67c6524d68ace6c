"""The configuration's shape: every key, its type, its limits, its default and its meaning.

The text below a key is its description. Durations are seconds and sizes are bytes in Python,
and are written ``30s`` and ``1MiB`` in the file.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, get_args

from psycopg.conninfo import conninfo_to_dict
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    Secret,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo

from station.config.problems import Refused
from station.config.quantities import format_duration
from station.config.secrets import SecretText, decode_key, derive_key
from station.config.values import (
    AllowedHost,
    BindHost,
    Command,
    Commas,
    Duration,
    EncryptionKey,
    EnvironmentName,
    FilePath,
    HttpUrl,
    LogFormat,
    LogLevel,
    ModelName,
    Origin,
    Port,
    PostgresUrl,
    Provider,
    RedisUrl,
    Size,
    Whole,
    between,
)

EVERY_INTERFACE = "0.0.0.0"  # noqa: S104 - containers publish ports of every interface

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
_SERVER_GONE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""libpq notices within 25 s that a server's machine is gone; the system would take 15 minutes."""


class Section(BaseModel):
    """A group of keys: frozen, complete, and closed to keys it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True
    )


def _at_most(limit: int, other: str) -> Callable[[dict[str, Any]], int]:
    """A default that gives way when a smaller ``other`` was configured."""
    return lambda given: min(limit, given.get(other, limit))


class Database(Section):
    """PostgreSQL. Sizes are per process."""

    url: PostgresUrl
    """A libpq URL, as psql takes it."""
    replica_url: PostgresUrl | None = None
    """A read replica; never used for log-in, leases or approvals."""
    max_connections: Annotated[Whole, Field(ge=1, le=1000)] = 20
    """Most connections one process opens."""
    max_idle_connections: Annotated[Whole, Field(ge=0, le=1000)] = Field(
        default_factory=_at_most(10, "max_connections")
    )
    """Connections kept open when idle (10, or fewer under a lower max_connections)."""
    connection_timeout: Annotated[Duration, between("100ms", "5m")] = 30.0
    """Longest wait for a connection."""
    connection_max_idle_time: Annotated[Duration, between("1s", "168h")] = 3600.0
    """Connections above max_idle_connections close after this long without use."""
    connection_max_lifetime: Annotated[Duration, between("1s", "720h")] = 14400.0
    """A connection is replaced at this age."""

    @field_validator("max_idle_connections")
    @classmethod
    def _idle_within_all(cls, idle: int, context: ValidationInfo) -> int:
        if idle > context.data.get("max_connections", idle):
            raise Refused("must be at most database.max_connections")
        return idle

    def django(self) -> dict[str, Any]:
        """The entry of Django's ``DATABASES``: psycopg's pool, no connection kept by Django."""
        options: dict[str, Any] = dict(conninfo_to_dict(self.url.get_secret_value()))
        named = {key: str(options.pop(key, "")) for key in ("dbname", "user", "password")}
        host, port = str(options.pop("host", "")), str(options.pop("port", ""))
        # libpq counts in whole seconds, and takes 0 for "for ever".
        options.setdefault("connect_timeout", max(1, math.ceil(self.connection_timeout)))
        for name, value in _SERVER_GONE.items():
            options.setdefault(name, value)
        # After a switch-over the former primary is still there, and good for nothing.
        options.setdefault("target_session_attrs", "read-write")
        options["pool"] = {
            "min_size": self.max_idle_connections,
            "max_size": self.max_connections,
            "timeout": self.connection_timeout,
            "max_idle": self.connection_max_idle_time,
            "max_lifetime": self.connection_max_lifetime,
        }
        return {
            "ENGINE": "station.postgresql",
            "NAME": named["dbname"],
            "USER": named["user"],
            "PASSWORD": named["password"],
            "HOST": host,
            "PORT": port,
            "CONN_MAX_AGE": 0,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": options,
        }


class Redis(Section):
    """Redis or Valkey: the doorbell, the cache, the live streams."""

    url: RedisUrl
    """redis://, rediss:// (TLS), unix://, or valkey:// (kept as redis://)."""


class RateLimit(Section):
    """The API's limit for one principal, or for one address when there is none."""

    requests_per_minute: Annotated[Whole, Field(ge=1, le=1_000_000)] = 100
    """Sustained requests in a minute."""
    burst: Annotated[Whole, Field(ge=1, le=100_000)] = 20
    """Requests that may come at once."""


class Api(Section):
    """Web admin and REST API."""

    host: BindHost = EVERY_INTERFACE
    """Address to listen on."""
    port: Port = 8080
    """Port to listen on."""
    workers: Annotated[Whole, Field(ge=1, le=64)] = 1
    """Web server processes."""
    cors_origins: Annotated[tuple[Origin, ...], Commas] = ()
    """Exact https origins whose pages may call the API; none by default."""
    allowed_hosts: Annotated[tuple[AllowedHost, ...], Commas, Field(min_length=1)] = ("*",)
    """Host headers answered to. * by default: probes and containers ask by address."""
    rate_limit: RateLimit
    drain_delay: Annotated[Duration, between("0s", "20s")] = 5.0
    """How long /ready says "draining" before a stopping server closes its port."""
    max_body: Annotated[Size, Field(ge=_KIB, le=_GIB)] = _MIB
    """Largest request body."""


class Tls(Section):
    """HTTPS served by Station itself; both keys or neither."""

    cert_path: FilePath | None = None
    """Certificate chain, PEM."""
    key_path: FilePath | None = Field(default=None, validate_default=True)
    """Private key, PEM."""

    @field_validator("key_path")
    @classmethod
    def _both_or_neither(cls, key_path: Any, context: ValidationInfo) -> Any:
        if "cert_path" in context.data and (context.data["cert_path"] is None) != (
            key_path is None
        ):
            missing = "tls.key_path" if key_path is None else "tls.cert_path"
            raise Refused(f"needs its pair: {missing} is not set", fix="Set both or neither.")
        return key_path

    @property
    def enabled(self) -> bool:
        """Station serves HTTPS itself."""
        return self.cert_path is not None


class Ssh(Section):
    """The SSH gateway."""

    host: BindHost = EVERY_INTERFACE
    """Address to listen on."""
    port: Port = 2222
    """Port to listen on."""
    host_key_path: FilePath | None = None
    """The host's private key; made in data_dir when not set."""
    authorized_keys_path: FilePath | None = None
    """Keys accepted besides those registered with Station."""


class Mcp(Section):
    """The MCP gateway, and the sessions with tool servers."""

    host: BindHost = EVERY_INTERFACE
    """Address the gateway listens on."""
    port: Port = 3000
    """Port the gateway listens on."""
    connection_pool_size: Annotated[Whole, Field(ge=1, le=10_000)] = 20
    """Most sessions with tool servers in one worker process."""
    request_timeout: Annotated[Duration, between("100ms", "1h")] = 30.0
    """Longest wait for a tool server's reply."""
    max_retries: Annotated[Whole, Field(ge=0, le=20)] = 3
    """Retries of connects and of idempotent calls."""
    stdio_commands: Annotated[tuple[Command, ...], Commas] = ()
    """Commands that tool servers may be started with on the worker's host; none by default."""
    stdio_environment: Annotated[tuple[EnvironmentName, ...], Commas] = ()
    """Variables handed to such commands besides PATH, HOME and LANG."""
    output_limit: Annotated[Size, Field(ge=_KIB, le=_GIB)] = _MIB
    """Most of one tool result that is kept."""


class Security(Section):
    """Keys and sessions."""

    encryption_key: EncryptionKey
    """32 bytes in hex or base64: seals secrets, and other keys are derived from it."""
    previous_encryption_keys: Annotated[tuple[EncryptionKey, ...], Commas] = ()
    """Former keys, newest first; they still open what they sealed."""
    session_timeout: Annotated[Duration, between("1s", "720h")] = 86400.0
    """A log-in ends at this age."""
    max_concurrent_sessions: Annotated[Whole, Field(ge=1, le=10_000)] = 10
    """Sessions of one user, web and SSH together."""

    @property
    def key_bytes(self) -> bytes:
        """The 32 bytes of the encryption key."""
        return decode_key(self.encryption_key.get_secret_value())

    @property
    def previous_key_bytes(self) -> tuple[bytes, ...]:
        """The 32 bytes of each former key, newest first."""
        return tuple(decode_key(k.get_secret_value()) for k in self.previous_encryption_keys)

    def derive(self, label: str, *, key: bytes | None = None) -> bytes:
        """32 bytes for the purpose ``label``, from ``key`` or else the present encryption key.

        Different labels give unrelated keys, and none of them tells the key it came from.
        """
        return derive_key(self.key_bytes if key is None else key, label)


class Ai(Section):
    """The model provider used by agents that name no other."""

    provider: Provider = "openai"
    """openai, anthropic, gemini, or another provider's name in litellm."""
    model: ModelName | None = None
    """The model of agents that name none."""
    api_key: SecretText | None = None
    """The provider's API key."""
    base_url: HttpUrl | None = None
    """The provider's address, where it is not the usual one."""
    request_timeout: Annotated[Duration, between("100ms", "1h")] = 120.0
    """Longest wait for one reply of a model."""
    max_retries: Annotated[Whole, Field(ge=0, le=20)] = 4
    """Retries of a request that was refused for now or failed at the provider."""
    circuit_failures: Annotated[Whole, Field(ge=0, le=1000)] = 5
    """Failures in a row, of all workers, after which runs wait for a provider (0: never)."""


class ExecutionQueue(Section):
    """How runs are taken and executed."""

    workers: Annotated[Whole, Field(ge=1, le=10_000)] = 10
    """Runs at once in one worker process."""
    buffer_size: Annotated[Whole, Field(ge=1, le=10_000_000)] = 1000
    """Most queued runs; further ones are refused until there is room."""
    timeout: Annotated[Duration, between("1s", "168h")] = 300.0
    """Running time of a run whose agent sets none."""
    lease: Annotated[Duration, between("1s", "10m")] = 20.0
    """How long a claim holds without renewal."""
    heartbeat: Annotated[Duration, between("100ms", "5m")] = Field(
        default_factory=lambda given: min(5.0, given.get("lease", 20.0) / 4)
    )
    """How often leases are renewed (5s, or a quarter of a lease below 20s)."""
    max_attempts: Annotated[Whole, Field(ge=1, le=100)] = 3
    """Crashed workers after which a run is given up."""
    keeper_tick: Annotated[Duration, between("100ms", "1m")] = 2.0
    """How often the keeper looks for lost work."""
    shutdown_grace: Annotated[Duration, between("0s", "20s")] = 10.0
    """How long a stopping worker lets steps finish before it hands runs back."""

    @field_validator("heartbeat")
    @classmethod
    def _twice_in_a_lease(cls, heartbeat: float, context: ValidationInfo) -> float:
        lease = context.data.get("lease")
        if lease is not None and heartbeat * 2 > lease:
            raise Refused(
                "must be at most half of execution_queue.lease, so that one lost renewal is"
                f" survived (the lease is {format_duration(lease)})"
            )
        return heartbeat


class PostHog(Section):
    """Where telemetry goes."""

    api_key: SecretText | None = None
    """The project's API key; without it nothing is sent."""
    host: HttpUrl = "https://us.i.posthog.com"
    """PostHog's address."""


class Telemetry(Section):
    """Usage telemetry; off by default."""

    enabled: bool = False
    """Send usage events to PostHog."""
    posthog: PostHog


class Log(Section):
    """What Station says on standard error."""

    level: LogLevel = "info"
    """debug, info, warn or error."""
    format: LogFormat = "text"
    """text for people, json for collectors."""


class Config(Section):
    """The whole configuration, valid and frozen. Made by :func:`station.config.load`."""

    database: Database
    redis: Redis
    api: Api
    tls: Tls
    ssh: Ssh
    mcp: Mcp
    security: Security
    ai: Ai
    execution_queue: ExecutionQueue
    telemetry: Telemetry
    log: Log
    data_dir: FilePath = Path("/var/lib/station")
    """Folder of files that Station keeps itself."""

    _sources: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @property
    def sources(self) -> Mapping[str, str]:
        """Where each key that is not at its default came from: a variable, or ``file:line``."""
        return self._sources


def _walk(section: type[Section], prefix: str, leaves: dict[str, FieldInfo]) -> set[str]:
    sections = {prefix}
    for name, field in section.model_fields.items():
        path = f"{prefix}.{name}".lstrip(".")
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            sections |= _walk(field.annotation, path, leaves)
        else:
            leaves[path] = field
    return sections


_leaves: dict[str, FieldInfo] = {}
SECTIONS = frozenset(_walk(Config, "", _leaves))
"""Dotted paths of the groups of keys; "" is the whole file."""
LEAVES: Mapping[str, FieldInfo] = MappingProxyType(_leaves)
"""Every key by its dotted path, in the order of the schema."""


def is_secret(path: str) -> bool:
    """Whether the key holds a secret, or a URL that may hold one."""

    def within(annotation: object) -> bool:
        if isinstance(annotation, type) and issubclass(annotation, Secret):
            return True
        return any(within(argument) for argument in get_args(annotation))

    return within(LEAVES[path].annotation)
