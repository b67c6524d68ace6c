"""What is refused, in which words, and that everything is told at once."""

import traceback
from pathlib import Path

import pytest

from station.config import ConfigError, load
from station.config.schema import LEAVES, is_secret
from station.config.variables import VARIABLES
from station.core.errors import Kind, StationError
from tests.unit.config.support import REQUIRED, key, load_text, problems_of, told, write

CANARY = "c4naryS3cret"


def test_all_problems_are_told_at_once_each_with_its_path_and_source(tmp_path: Path) -> None:
    file = write(tmp_path, "api:\n  port: x\n  prot: 1\ndatabse: {}\nlog: 5\nredis:\n  url:\n")
    environ = {"STN_LOG_LEVEL": "loud", "STN_API_PROT": "1", "STN_DATABASE_URL": "mysql://h/d"}
    with pytest.raises(ConfigError) as caught:
        load(file, environ)
    problems = {p.path: p for p in caught.value.problems}
    assert {path: p.source for path, p in problems.items()} == {
        "STN_API_PROT": "environment",
        "api.port": f"{file}:2",
        "api.prot": f"{file}:3",
        "databse": f"{file}:4",
        "log": f"{file}:5",
        "redis.url": "",
        "log.level": "STN_LOG_LEVEL",
        "database.url": "STN_DATABASE_URL",
        "security.encryption_key": "",
    }
    assert all(str(p) in str(caught.value) for p in caught.value.problems)
    assert len(caught.value.details()["errors"]) == len(problems) == 9


def test_a_configuration_error_is_one_of_stations_errors(tmp_path: Path) -> None:
    with pytest.raises(StationError) as caught:
        load_text(tmp_path, "x: 1")
    assert caught.value.code == "invalid_configuration"
    assert caught.value.kind is Kind.INVALID


@pytest.mark.parametrize(
    ("text", "path", "suggestion"),
    [
        ("databse: {}", "databse", "Did you mean database?"),
        ("api: {rate_limits: {}}", "api.rate_limits", "Did you mean api.rate_limit?"),
        ("database: {max_conections: 1}", "database.max_conections", "database.max_connections?"),
        ("posthog: {}", "posthog", "Here go:"),
        ("lease: 5s", "lease", "Did you mean execution_queue.lease?"),
        ("api: {level: info}", "api.level", "Did you mean log.level?"),
        ("api: {Port: 1}", "api.Port", "Did you mean api.port?"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(
    text: str, path: str, suggestion: str, tmp_path: Path
) -> None:
    assert suggestion in problems_of(tmp_path, text)[path]


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("STN_API_PROT", "STN_API_PORT"),
        ("STN_API_PORT_FILE", "STN_API_PORT"),
        ("STN_CONFIG_FILE", "STN_CONFIG"),
        ("STN_ENCRYPTION_KEY_FIEL", "STN_ENCRYPTION_KEY_FILE"),
        ("STN_ZZZZZZZZZZ", "reserved"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest(
    name: str, suggestion: str, tmp_path: Path
) -> None:
    assert suggestion in problems_of(tmp_path, **{name: ""})[name]


def test_variables_of_others_are_ignored(tmp_path: Path) -> None:
    assert load_text(tmp_path, PATH="/bin", STNX="1", stn_api_port="x").api.port == 8080


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("api: {port: true}", "api.port", "whole number"),
        ("api: {port: 80.5}", "api.port", "whole number"),
        ("api: {port: [1]}", "api.port", "whole number"),
        ("api: {port: 0}", "api.port", "at least 1"),
        ("api: {port: 65536}", "api.port", "at most 65535"),
        ("api: {port: {a: 1}}", "api.port", "plain value"),
        ("api: {cors_origins: [[a]]}", "api.cors_origins", "plain value"),
        ("api: {cors_origins: 5}", "api.cors_origins", "list"),
        ("api: {allowed_hosts: []}", "api.allowed_hosts", "empty"),
        ("api: {allowed_hosts: 'https://a'}", "api.allowed_hosts[0]", "host name"),
        ("api: {host: 'a:80'}", "api.host", "listen"),
        ("api: {max_body: 1MB}", "api.max_body", "size"),
        ("api: [1]", "api", "group of keys"),
        ("- 1", "", "group of keys"),
        ("api: {drain_delay: 5}", "api.drain_delay", "unit"),
        ("api: {drain_delay: 5m}", "api.drain_delay", "between 0s and 20s"),
        ("telemetry: {enabled: maybe}", "telemetry.enabled", "true or false"),
        ("telemetry: {posthog: {host: 'https://u:p@h'}}", "telemetry.posthog.host", "login"),
        ("ai: {model: 4}", "ai.model", "must be text"),
        ("ai: {provider: no}", "ai.provider", "must be text"),
        ("ai: {base_url: 'ftp://h'}", "ai.base_url", "http"),
        ("log: {level: trace}", "log.level", "'debug', 'info', 'warn' or 'error'"),
        ("data_dir: 5", "data_dir", "path"),
        ("data_dir: ' '", "data_dir", "path"),
        ("data_dir: 2024-13-45", "data_dir", "quotes"),
        ("data_dir: !!python/name:os.system x", "data_dir", "quotes"),
        ("? [a]\n: 1", "", "not a name"),
        ("data_dir: /a\ndata_dir: /b", "data_dir", "twice"),
        ("tls: {cert_path: /c}", "tls.key_path", "tls.key_path is not set"),
        ("tls: {key_path: /k}", "tls.key_path", "tls.cert_path is not set"),
        ("execution_queue: {heartbeat: 11s}", "execution_queue.heartbeat", "at most half"),
        ("database: {max_idle_connections: 21}", "database.max_idle_connections", "at most"),
        ("mcp: {stdio_commands: [./tool]}", "mcp.stdio_commands[0]", "absolute"),
        ("mcp: {stdio_environment: [STN_AI_API_KEY]}", "mcp.stdio_environment[0]", "secrets"),
        ("mcp: {stdio_environment: [A=B]}", "mcp.stdio_environment[0]", "name"),
        ("api: {port: '${UNCLOSED'}", "api.port", "malformed"),
        ("api: {port: '${P:-80}'}", "api.port", "without the dash"),
        ("api: {cors_origins: ['${NOPE}']}", "api.cors_origins", "variable NOPE"),
        ("data_dir: /srv/${NOPE}", "data_dir", "variable NOPE"),
    ],
)
def test_a_bad_value_is_refused_at_its_path(
    text: str, path: str, words: str, tmp_path: Path
) -> None:
    problems = problems_of(tmp_path, text)
    assert list(problems) == [path or f"{tmp_path}/station.yaml"]
    assert words in next(iter(problems.values()))


def test_a_default_that_follows_a_bad_key_is_not_blamed(tmp_path: Path) -> None:
    text = "database: {max_connections: x}\nexecution_queue: {lease: x}\n"
    assert set(problems_of(tmp_path, text)) == {"database.max_connections", "execution_queue.lease"}


@pytest.mark.parametrize(
    "text",
    [
        "a: b: c",
        "\tapi: 1",
        "api: {port: ${X}}",
        "a: *nope",
        "a: 'x",
        "\x00",
        "---\n---\n",
        "[" * 9999,
    ],
)
def test_a_file_that_is_not_yaml_is_refused_without_quoting_it(text: str, tmp_path: Path) -> None:
    problems = told(write(tmp_path, text), {})
    assert list(problems) == [f"{tmp_path}/station.yaml"]
    assert "not valid YAML" in next(iter(problems.values()))


@pytest.mark.parametrize("kind", ["missing", "folder", "binary"])
def test_a_file_that_cannot_be_read_is_refused(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "station.yaml"
    if kind == "folder":
        file.mkdir()
    elif kind == "binary":
        file.write_bytes(b"\xff\xfe")
    assert list(told(str(file), REQUIRED)) == [str(file)]
    assert list(told("", REQUIRED | {"STN_CONFIG": str(file)})) == [str(file)]


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:p@h/d",
        "sqlite:///d.db",
        "postgresql+psycopg://h/d",
        "host=h dbname=d",
        "d",
        "postgresql://u:pa/ss@h/d",
        "postgresql://u:p@h",
        "postgresql://h/d?nope=1",
        "postgres://",
    ],
)
def test_a_database_other_than_postgresql_is_refused(url: str, tmp_path: Path) -> None:
    problems = problems_of(tmp_path, STN_DATABASE_URL=url)
    assert list(problems) == ["database.url"]
    if url.startswith(("mysql", "sqlite")):
        assert "PostgreSQL is the only database" in problems["database.url"]


@pytest.mark.parametrize(
    "url",
    ["http://h", "redis://", "redis://h/x", "unix://", "redis://h:x/0", "h:6379", "redis://h/0 "],
)
def test_what_is_no_redis_url_is_refused(url: str, tmp_path: Path) -> None:
    assert list(problems_of(tmp_path, STN_REDIS_URL=url)) == ["redis.url"]


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "https://*.a.example",
        "https://a.example/",
        "https://a.example/x",
        "a.example",
        "https://A.example",
        "https://a.example:443",
        "http://a.example",
        "https://u@a.example",
        ".*",
        "https://a.example.*",
        "https://",
        "ftp://a.example",
        "https://a.example?x",
        "https://a b",
        "http://localhost.evil.example",
        "https://a.example:x",
        "http://localhost:80",
    ],
)
def test_what_is_no_exact_https_origin_is_refused(origin: str, tmp_path: Path) -> None:
    assert list(problems_of(tmp_path, STN_CORS_ORIGINS=origin)) == ["api.cors_origins[0]"]


@pytest.mark.parametrize(
    "origin",
    [
        "https://a.example",
        "https://a.example:8443",
        "https://[::1]:8443",
        "http://127.0.0.1:5173",
        "http://localhost",
        "https://xn--bcher-kva.example",
        "https://10.0.0.1",
    ],
)
def test_an_exact_origin_is_accepted(origin: str, tmp_path: Path) -> None:
    assert load_text(tmp_path, STN_CORS_ORIGINS=origin).api.cors_origins == (origin,)


def test_a_secret_and_its_file_together_are_refused(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, STN_ENCRYPTION_KEY_FILE="/run/key")
    assert list(problems) == ["security.encryption_key"]
    assert "both set" in problems["security.encryption_key"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no such file"), (b"", "empty"), (b"\xff", "UTF-8"), (b"a" * 70_000, "larger")],
)
def test_a_secrets_file_that_cannot_be_used_is_refused(
    content: bytes | None, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    environ = {n: v for n, v in REQUIRED.items() if n != "STN_ENCRYPTION_KEY"}
    problems = told(write(tmp_path, ""), environ | {"STN_ENCRYPTION_KEY_FILE": str(file)})
    assert list(problems) == ["security.encryption_key"]
    assert words.lower() in problems["security.encryption_key"].lower()
    assert str(file) in problems["security.encryption_key"]


def every_telling(error: ConfigError) -> str:
    whole = "".join(traceback.format_exception(error))
    context = error.__context__ or error.__cause__
    return f"{error} {error!r} {error.details()} {whole} {context!r}"


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda v: v.name)
def test_no_message_quotes_a_variable(variable: object, tmp_path: Path) -> None:
    assert isinstance(variable, type(VARIABLES[0]))
    bad = f"://{CANARY} {CANARY}:{CANARY}@"
    if variable.path in ("ai.api_key", "telemetry.posthog.api_key", "data_dir") or (
        variable.path.startswith("tls.")
    ):
        bad = CANARY  # nothing is wrong with it; the unknown key below is
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, "unknown: 1", **{variable.name: bad})
    assert CANARY not in every_telling(caught.value)


@pytest.mark.parametrize("path", LEAVES)
@pytest.mark.parametrize(
    "written", [{CANARY: 1}, [[CANARY]], [f"{CANARY} x"], f"{CANARY}\n${{", 10**40]
)
def test_no_message_quotes_the_file(path: str, written: object, tmp_path: Path) -> None:
    file = write(tmp_path, key(path, written) + f"unknown: {CANARY}\n")
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert CANARY not in every_telling(caught.value)
    assert str(10**40) not in every_telling(caught.value)


@pytest.mark.parametrize("value", [f"*{CANARY}", f"!{CANARY}", f"!!{CANARY} x", f"'{CANARY}"])
def test_yamls_own_words_are_not_repeated(value: str, tmp_path: Path) -> None:
    assert is_secret("ai.api_key")
    file = write(tmp_path, f"ai:\n  api_key: {value}\n")
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert CANARY not in every_telling(caught.value)
    assert f"{file}:2" in str(caught.value) or f"{file}:3" in str(caught.value)
