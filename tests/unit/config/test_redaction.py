import json
from pathlib import Path

from station.config import load, redacted
from station.config.schema import LEAVES, Config, is_secret
from station.config.variables import VARIABLES
from tests.unit.config.support import REQUIRED, load_text

KEY, FORMER = "c0ffee11" * 8, "deadbeef" * 8
SECRETS = {
    "STN_DATABASE_URL": "postgresql://station:hunter2@db:5432/station?sslpassword=hunter2",
    "STN_DATABASE_REPLICA_URL": "postgresql://station:hunter2@replica/station",
    "STN_REDIS_URL": "redis://:hunter2@redis:6379/0",
    "STN_ENCRYPTION_KEY": KEY,
    "STN_PREVIOUS_ENCRYPTION_KEYS": FORMER,
    "STN_AI_API_KEY": "sk-hunter2",
    "STN_POSTHOG_API_KEY": "phc-hunter2",
}


def full(folder: Path) -> Config:
    return load_text(folder, "api: {port: 81}\n", STN_SSH_PORT="22", **SECRETS)


def test_every_secret_is_in_this_test() -> None:
    by_variable = {v.path for v in VARIABLES if v.name in SECRETS}
    assert {path for path in LEAVES if is_secret(path)} == by_variable


def test_no_output_of_a_configuration_holds_a_secret(tmp_path: Path) -> None:
    config = full(tmp_path)
    outputs = [
        json.dumps(redacted(config)),
        json.dumps(redacted(config, with_sources=True)),
        repr(config),
        str(config),
        config.model_dump_json(),
        repr(config.model_dump()),
    ]
    for output in outputs:
        assert "hunter2" not in output
        assert KEY not in output
        assert FORMER not in output
        assert "replica" in output


def test_what_is_shown_is_written_as_in_the_file(tmp_path: Path) -> None:
    shown = redacted(full(tmp_path))
    assert shown["database"]["url"] == (
        "postgresql://station:********@db:5432/station?sslpassword=********"
    )
    assert shown["security"]["encryption_key"] == "********"
    assert shown["security"]["previous_encryption_keys"] == ["********"]
    assert shown["security"]["session_timeout"] == "24h"
    assert shown["api"]["max_body"] == "1MiB"
    assert shown["api"]["allowed_hosts"] == ["*"]
    assert shown["data_dir"] == "/var/lib/station"
    assert shown["ai"]["model"] is None


def test_what_is_shown_loads_again_once_the_secrets_are_given(tmp_path: Path) -> None:
    config = load_text(tmp_path, "api: {port: 81, rate_limit: {burst: 3}}")
    file = tmp_path / "again.yaml"
    file.write_text(json.dumps(redacted(config)))
    assert redacted(load(str(file), REQUIRED)) == redacted(config)


def test_sources_tell_where_each_value_came_from(tmp_path: Path) -> None:
    shown = redacted(full(tmp_path), with_sources=True)
    assert shown["api"]["port"] == {"value": 81, "source": f"{tmp_path}/station.yaml:1"}
    assert shown["ssh"]["port"] == {"value": 22, "source": "STN_SSH_PORT"}
    assert shown["mcp"]["port"] == {"value": 3000, "source": "default"}
    assert shown["api"]["rate_limit"]["burst"] == {"value": 20, "source": "default"}
