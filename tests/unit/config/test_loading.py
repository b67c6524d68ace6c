"""Precedence, unset values, defaults that follow others, and the object that comes out."""

from collections.abc import Iterator
from pathlib import Path

import psycopg_pool
import pytest
from pydantic import ValidationError

from station import config as configuration
from station.config import Config, ConfigError, load
from station.config.document import find_document
from tests.unit.config.support import REQUIRED, load_text, write


@pytest.fixture
def fresh() -> Iterator[None]:
    configuration.reset()
    yield
    configuration.reset()


def test_the_argument_wins_over_the_variable_and_that_over_the_default(tmp_path: Path) -> None:
    default = tmp_path / "default.yaml"
    assert find_document(None, {}, default) is None
    default.touch()
    assert find_document(None, {}, default) == default
    assert find_document(None, {"STN_CONFIG": "/b"}, default) == Path("/b")
    assert find_document("/a", {"STN_CONFIG": "/b"}, default) == Path("/a")


def test_a_file_is_named_by_the_variable(tmp_path: Path) -> None:
    file = write(tmp_path, "api: {port: 1234}")
    assert load(environ=REQUIRED | {"STN_CONFIG": file}).api.port == 1234


@pytest.mark.parametrize("text", ["", "# nothing\n", "~", "api:\n", "api:\n  port:\n"])
def test_what_a_file_leaves_empty_is_at_its_default(text: str, tmp_path: Path) -> None:
    assert load_text(tmp_path, text).api.port == 8080


@pytest.mark.parametrize("text", ["api: {port: '${P}'}", "api: {port: ''}", "api: {port: '${P:}'}"])
def test_a_placeholder_of_an_unset_variable_leaves_the_key_unset(text: str, tmp_path: Path) -> None:
    config = load_text(tmp_path, text, P="")
    assert config.api.port == 8080
    assert "api.port" not in config.sources


def test_an_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    assert load_text(tmp_path, "api: {port: 81}", STN_API_PORT="", STN_AI_API_KEY="").api.port == 81


def test_a_placeholder_is_typed_by_its_key(tmp_path: Path) -> None:
    text = "api: {port: '${P}'}\ntelemetry: {enabled: '${T:false}'}\nai: {model: '${M}'}\n"
    config = load_text(tmp_path, text, P="81", T="true", M="4")
    assert (config.api.port, config.telemetry.enabled, config.ai.model) == (81, True, "4")


def test_a_variables_content_never_becomes_yaml(tmp_path: Path) -> None:
    config = load_text(tmp_path, "ai:\n  api_key: ${K}\n", K="x\nlog: {level: debug}  # ${P} '")
    assert config.ai.api_key is not None
    assert config.ai.api_key.get_secret_value() == "x\nlog: {level: debug}  # ${P} '"
    assert config.log.level == "info"


def test_a_placeholder_sees_a_secret_that_came_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-1\n")
    text = "telemetry:\n  posthog:\n    api_key: phc-${STN_AI_API_KEY}\n"
    config = load_text(tmp_path, text, STN_AI_API_KEY_FILE=str(tmp_path / "key"))
    assert config.telemetry.posthog.api_key is not None
    assert config.telemetry.posthog.api_key.get_secret_value() == "phc-sk-1"


def test_what_a_variable_overrides_is_not_judged(tmp_path: Path) -> None:
    text = "database:\n  url: mysql://u:${NOPE}@h/d\napi:\n  port: x\n"
    assert load_text(tmp_path, text, STN_API_PORT="81").api.port == 81


def test_an_alias_repeats_a_value(tmp_path: Path) -> None:
    config = load_text(tmp_path, "api: {port: &p 81}\nssh: {port: *p}\n")
    assert config.ssh.port == 81


def test_defaults_give_way_to_what_they_follow(tmp_path: Path) -> None:
    config = load_text(tmp_path, "database: {max_connections: 4}\nexecution_queue: {lease: 2s}\n")
    assert config.database.max_idle_connections == 4
    assert config.execution_queue.heartbeat == 0.5
    unchanged = load_text(tmp_path)
    assert unchanged.database.max_idle_connections == 10
    assert unchanged.execution_queue.heartbeat == 5.0


def test_nothing_of_a_configuration_can_be_changed(tmp_path: Path) -> None:
    config = load_text(tmp_path)
    with pytest.raises(ValidationError, match="frozen"):
        config.api.port = 1
    with pytest.raises(ValidationError, match="frozen"):
        config.api = config.api
    with pytest.raises(TypeError):
        config.sources["api.port"] = "x"  # type: ignore[index]


def test_django_gets_the_database_with_every_pool_setting(tmp_path: Path) -> None:
    text = (
        "database: {max_connections: 7, max_idle_connections: 2, connection_timeout: 1500ms,"
        " connection_max_idle_time: 1m, connection_max_lifetime: 2m}"
    )
    url = "postgresql://u:p%40ss@h:5433/d?sslmode=require&tcp_user_timeout=5000"
    entry = load_text(tmp_path, text, STN_DATABASE_URL=url).database.django()
    named = {key: entry[key] for key in ("NAME", "USER", "PASSWORD", "HOST", "PORT")}
    assert named == {"NAME": "d", "USER": "u", "PASSWORD": "p@ss", "HOST": "h", "PORT": "5433"}
    pool = entry["OPTIONS"].pop("pool")
    assert entry["OPTIONS"] == {
        "sslmode": "require",
        "connect_timeout": 2,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": "5000",
        "target_session_attrs": "read-write",
    }
    assert pool == {
        "min_size": 2,
        "max_size": 7,
        "timeout": 1.5,
        "max_idle": 60,
        "max_lifetime": 120,
    }
    unopened = psycopg_pool.ConnectionPool(open=False, **pool)
    assert (unopened.min_size, unopened.max_size, unopened.timeout) == (2, 7, 1.5)


@pytest.mark.usefixtures("fresh")
def test_a_process_loads_its_configuration_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STN_CONFIG", write(tmp_path, "api: {port: 81}"))
    first = configuration.current()
    write(tmp_path, "api: {port: 82}")
    assert configuration.current() is first
    configuration.reset()
    assert (first.api.port, configuration.current().api.port) == (81, 82)


@pytest.mark.usefixtures("fresh")
def test_a_process_whose_configuration_failed_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STN_CONFIG", write(tmp_path, "x: 1"))
    with pytest.raises(ConfigError):
        configuration.current()
    write(tmp_path, "")
    assert isinstance(configuration.current(), Config)
