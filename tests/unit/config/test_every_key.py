"""Every key can be set from the file, and every variable wins over the file."""

from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic import Secret

from station.config import load
from station.config.schema import LEAVES, SECTIONS
from station.config.variables import VARIABLES, Variable
from tests.unit.config.support import REQUIRED, key, load_text, value_at, write


class Sample(NamedTuple):
    """A value other than the default as written in the file, what it means, and another one."""

    written: object
    meaning: object
    other: str = ""
    other_meaning: object = None


PATHS = {"tls.cert_path": "tls.key_path", "tls.key_path": "tls.cert_path"}
SAMPLES = {
    "database.url": Sample("postgres://a:b@c/d", "postgres://a:b@c/d", "postgresql:///e?host=/run"),
    "database.replica_url": Sample("postgres://r/d", "postgres://r/d", "postgres://s/d"),
    "database.max_connections": Sample(50, 50),
    "database.max_idle_connections": Sample(3, 3),
    "database.connection_timeout": Sample("5s", 5.0),
    "database.connection_max_idle_time": Sample("10m", 600.0),
    "database.connection_max_lifetime": Sample("2h", 7200.0),
    "redis.url": Sample("valkey://v:1/2", "redis://v:1/2", "unix:///run/valkey.sock?db=1"),
    "api.host": Sample("127.0.0.1", "127.0.0.1", "::1"),
    "api.port": Sample(8081, 8081, "8082", 8082),
    "api.workers": Sample(4, 4),
    "api.cors_origins": Sample(
        ["https://a.example"],
        ("https://a.example",),
        "https://b.example, http://localhost:5173",
        ("https://b.example", "http://localhost:5173"),
    ),
    "api.allowed_hosts": Sample(
        ["a.example"], ("a.example",), ".b.example,10.0.0.1", (".b.example", "10.0.0.1")
    ),
    "api.rate_limit.requests_per_minute": Sample(7, 7),
    "api.rate_limit.burst": Sample(7, 7),
    "api.drain_delay": Sample("0s", 0.0),
    "api.max_body": Sample("2MiB", 2 << 20),
    "tls.cert_path": Sample("/a.crt", Path("/a.crt"), "/b.crt", Path("/b.crt")),
    "tls.key_path": Sample("/a.key", Path("/a.key"), "/b.key", Path("/b.key")),
    "ssh.host": Sample("127.0.0.1", "127.0.0.1", "localhost"),
    "ssh.port": Sample(22, 22, "2022", 2022),
    "ssh.host_key_path": Sample("/k", Path("/k")),
    "ssh.authorized_keys_path": Sample("/k", Path("/k")),
    "mcp.host": Sample("127.0.0.1", "127.0.0.1", "localhost"),
    "mcp.port": Sample(3001, 3001, "3002", 3002),
    "mcp.connection_pool_size": Sample(1, 1),
    "mcp.request_timeout": Sample("250ms", 0.25),
    "mcp.max_retries": Sample(0, 0),
    "mcp.stdio_commands": Sample(["/usr/bin/tool", "npx"], ("/usr/bin/tool", "npx")),
    "mcp.stdio_environment": Sample(["HTTP_PROXY"], ("HTTP_PROXY",)),
    "mcp.output_limit": Sample(4096, 4096),
    "security.encryption_key": Sample("a" * 64, "a" * 64, "b" * 64),
    "security.previous_encryption_keys": Sample(
        ["a" * 64], ("a" * 64,), f"{'b' * 64},{'c' * 64}", ("b" * 64, "c" * 64)
    ),
    "security.session_timeout": Sample("1h30m", 5400.0),
    "security.max_concurrent_sessions": Sample(1, 1),
    "ai.provider": Sample("anthropic", "anthropic", "gemini"),
    "ai.model": Sample("gpt-4", "gpt-4", "org/some-model:free"),
    "ai.api_key": Sample("sk-a", "sk-a", "sk-b"),
    "ai.base_url": Sample("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1", "https://b/v1"),
    "ai.request_timeout": Sample("10s", 10.0),
    "ai.max_retries": Sample(0, 0),
    "ai.circuit_failures": Sample(0, 0),
    "execution_queue.workers": Sample(500, 500),
    "execution_queue.buffer_size": Sample(5, 5),
    "execution_queue.timeout": Sample("24h", 86400.0),
    "execution_queue.lease": Sample("2s", 2.0),
    "execution_queue.heartbeat": Sample("1s", 1.0),
    "execution_queue.max_attempts": Sample(1, 1),
    "execution_queue.keeper_tick": Sample("500ms", 0.5),
    "execution_queue.shutdown_grace": Sample("3s", 3.0),
    "telemetry.enabled": Sample(True, True, "false", False),
    "telemetry.posthog.api_key": Sample("phc_a", "phc_a", "phc_b"),
    "telemetry.posthog.host": Sample("https://a.example", "https://a.example", "https://b.example"),
    "log.level": Sample("debug", "debug", "warn"),
    "log.format": Sample("json", "json", "TEXT", "text"),
    "data_dir": Sample("/srv/station", Path("/srv/station"), "/srv/other", Path("/srv/other")),
}


def plain(value: object) -> object:
    if isinstance(value, Secret):
        return value.get_secret_value()
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


def pair(path: str) -> str:
    """TLS needs both of its keys: the other one."""
    return key(PATHS[path], "/pair").split("\n", 1)[1] if path in PATHS else ""


def test_there_is_a_sample_for_every_key_of_the_schema() -> None:
    assert set(SAMPLES) == set(LEAVES)


def test_every_key_and_section_of_the_schema_is_described() -> None:
    assert [path for path, field in LEAVES.items() if not field.description] == []
    assert "api.rate_limit" in SECTIONS


@pytest.mark.parametrize("path", LEAVES)
def test_the_file_sets_the_key(path: str, tmp_path: Path) -> None:
    sample = SAMPLES[path]
    bare = {
        name: value
        for name, value in REQUIRED.items()
        if not any(v.name == name and v.path == path for v in VARIABLES)
    }
    before = load_text(tmp_path)
    config = load(write(tmp_path, key(path, sample.written) + pair(path)), bare)
    assert plain(value_at(config, path)) == sample.meaning
    assert plain(value_at(before, path)) != sample.meaning
    assert config.sources[path].startswith(f"{tmp_path}/station.yaml:")


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda v: v.name)
def test_the_variable_wins_over_the_file(variable: Variable, tmp_path: Path) -> None:
    sample = SAMPLES[variable.path]
    text = key(variable.path, sample.written) + pair(variable.path)
    config = load_text(tmp_path, text, **{variable.name: sample.other})
    meaning = sample.other if sample.other_meaning is None else sample.other_meaning
    assert plain(value_at(config, variable.path)) == meaning
    assert config.sources[variable.path] == variable.name


@pytest.mark.parametrize("variable", [v for v in VARIABLES if v.secret], ids=lambda v: v.name)
def test_the_secret_can_come_from_a_file_of_its_own(variable: Variable, tmp_path: Path) -> None:
    sample = SAMPLES[variable.path]
    file = tmp_path / "secret"
    file.write_text(f"{sample.other}\n")
    environ = {n: v for n, v in REQUIRED.items() if n != variable.name}
    environ[f"{variable.name}_FILE"] = str(file)
    config = load(write(tmp_path, key(variable.path, sample.written)), environ)
    meaning = sample.other if sample.other_meaning is None else sample.other_meaning
    assert plain(value_at(config, variable.path)) == meaning
    assert config.sources[variable.path] == f"{variable.name}_FILE"


def test_exactly_the_secret_variables_have_a_file_variant() -> None:
    assert {v.name for v in VARIABLES if v.file_name} == {
        "STN_DATABASE_URL",
        "STN_DATABASE_REPLICA_URL",
        "STN_REDIS_URL",
        "STN_ENCRYPTION_KEY",
        "STN_PREVIOUS_ENCRYPTION_KEYS",
        "STN_AI_API_KEY",
        "STN_POSTHOG_API_KEY",
    }
