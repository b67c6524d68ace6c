"""The environment variables: one table, read by the loader, the messages and the documentation."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from station.config.schema import LEAVES, is_secret

PREFIX = "STN_"
FILE_VARIABLE = "STN_CONFIG"
"""Names the configuration file; the only variable that is no key's."""


@dataclass(frozen=True, kw_only=True)
class Variable:
    """An environment variable that sets one key."""

    name: str
    path: str

    @property
    def secret(self) -> bool:
        """Its value is a secret, or a URL that may hold one."""
        return is_secret(self.path)

    @property
    def file_name(self) -> str | None:
        """For a secret, the variable that names a file holding it."""
        return f"{self.name}_FILE" if self.secret else None

    @property
    def description(self) -> str:
        return LEAVES[self.path].description or ""


VARIABLES: tuple[Variable, ...] = tuple(
    Variable(name=name, path=path)
    for name, path in (
        ("STN_DATABASE_URL", "database.url"),
        ("STN_DATABASE_REPLICA_URL", "database.replica_url"),
        ("STN_REDIS_URL", "redis.url"),
        ("STN_ENCRYPTION_KEY", "security.encryption_key"),
        ("STN_PREVIOUS_ENCRYPTION_KEYS", "security.previous_encryption_keys"),
        ("STN_API_HOST", "api.host"),
        ("STN_API_PORT", "api.port"),
        ("STN_ALLOWED_HOSTS", "api.allowed_hosts"),
        ("STN_CORS_ORIGINS", "api.cors_origins"),
        ("STN_TLS_CERT_PATH", "tls.cert_path"),
        ("STN_TLS_KEY_PATH", "tls.key_path"),
        ("STN_SSH_HOST", "ssh.host"),
        ("STN_SSH_PORT", "ssh.port"),
        ("STN_MCP_HOST", "mcp.host"),
        ("STN_MCP_PORT", "mcp.port"),
        ("STN_AI_PROVIDER", "ai.provider"),
        ("STN_AI_API_KEY", "ai.api_key"),
        ("STN_AI_MODEL", "ai.model"),
        ("STN_AI_BASE_URL", "ai.base_url"),
        ("STN_TELEMETRY_ENABLED", "telemetry.enabled"),
        ("STN_POSTHOG_API_KEY", "telemetry.posthog.api_key"),
        ("STN_POSTHOG_HOST", "telemetry.posthog.host"),
        ("STN_LOG_LEVEL", "log.level"),
        ("STN_LOG_FORMAT", "log.format"),
        ("STN_DATA_DIR", "data_dir"),
    )
)

BY_PATH: Mapping[str, Variable] = MappingProxyType({v.path: v for v in VARIABLES})
