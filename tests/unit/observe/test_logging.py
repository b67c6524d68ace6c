"""The log: one shape for every line, and no secret in any."""

import json
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from station.config import current
from station.observe import logging as station_logging
from station.observe.context import bound
from station.observe.redaction import MASK, Redaction, configured_secrets

KEY = "stn_abcdefghijkl_C4naryC4naryC4nary"


class Log:
    """Configures the log in this process and keeps what it writes."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured, self._said = captured, ""

    def begin(self, level: str = "info", form: str = "json") -> None:
        station_logging.configure({"level": level, "format": form})

    @property
    def text(self) -> str:
        self._said += self._captured.readouterr().err
        return self._said

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Iterator[Log]:
    yield Log(capsys)
    settings = current().log
    station_logging.configure({"level": settings.level, "format": settings.format})
    logging.captureWarnings(False)


def _own() -> Any:
    return structlog.get_logger("station.tests")


def test_structlog_and_the_standard_library_write_the_same_fields(log: Log) -> None:
    log.begin()
    _own().info("claimed", run_id=7)
    logging.getLogger("station.tests").warning("claimed %s", 8)
    first, second = log.records
    assert list(first) == ["timestamp", "level", "logger", "event", "run_id"]
    assert first["timestamp"].endswith("+00:00")
    assert (first["level"], first["event"], first["run_id"]) == ("info", "claimed", 7)
    assert (second["level"], second["logger"], second["event"]) == (
        "warn",
        "station.tests",
        "claimed 8",
    )


def test_the_bound_context_is_on_every_line_within(log: Log) -> None:
    log.begin()
    with bound(run_id=42, environment="blue"):
        _own().info("in")
        logging.getLogger("celery").warning("also in")
    _own().info("out")
    inside, also, outside = log.records
    assert inside["run_id"] == also["run_id"] == 42
    assert "run_id" not in outside


def test_an_exception_is_text_in_one_field_of_one_line(log: Log) -> None:
    log.begin()
    try:
        raise ValueError(f"no good: {KEY}")
    except ValueError as error:
        _own().error("errored", exc_info=True)
        _own().error("errored", exc_info=error)
        logging.getLogger("station.tests").exception("errored")
    assert len(log.records) == 3
    for record in log.records:
        assert "Traceback" in record["exception"]
        assert record["exception"].endswith(f"ValueError: no good: stn_{MASK}")


@pytest.mark.parametrize(
    "name",
    ["password", "db_password", "api_key", "apiKey", "X-API-Key", "Authorization", "Set-Cookie",
     "client_secret", "token", "access_token", "session_key", "private_key", "csrfmiddlewaretoken"],
)  # fmt: skip
def test_a_field_with_a_secret_name_is_masked_at_any_depth(log: Log, name: str) -> None:
    log.begin()
    _own().info("asked", **{name: "canary"}, headers={"a": [{name: "canary"}]})
    assert "canary" not in log.text
    assert log.records[0][name] == MASK


@pytest.mark.parametrize("name", ["input_tokens", "max_tokens", "key_id", "monkey", "tokens"])
def test_a_field_that_only_sounds_secret_is_kept(log: Log, name: str) -> None:
    log.begin()
    _own().info("asked", **{name: "kept"})
    assert log.records[0][name] == "kept"


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"({KEY})",
        "Authorization: Bearer C4naryC4nary.abc",
        "authorization=basic QzRuYXJ5QzRuYXJ5C4nary==",
        "postgresql://station:C4nary@db/station",
        "redis://:C4nary@cache:6379/0",
        "https://h/x?api_key=C4nary&y=1",
        "key sk-proj-C4naryC4naryC4nary rejected",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nC4naryC4nary\n-----END",
    ],
)
def test_what_looks_like_a_secret_is_masked_in_any_text(log: Log, text: str) -> None:
    log.begin()
    _own().info(text, note=text, deep={"list": [text]})
    logging.getLogger("station.tests").info("said %s", text)
    logging.getLogger("somebody.else").error(text)
    assert "c4nary" not in log.text.lower()
    assert len(log.records) == 3


def test_configured_secrets_are_masked_wherever_they_appear(log: Log) -> None:
    log.begin()
    secrets = configured_secrets(current())
    assert current().security.encryption_key.get_secret_value() in secrets
    assert any(secret in current().database.url.get_secret_value() for secret in secrets)
    for secret in secrets:
        _own().info(f"it is {secret}.")
        if len(secret) >= 8:
            assert secret not in log.text


def test_a_url_keeps_its_host_and_an_ordinary_text_stays_as_it_is() -> None:
    redact = Redaction().text
    assert redact("postgresql://u:pw@db:5432/x") == f"postgresql://u:{MASK}@db:5432/x"
    for text in ("see https://host/path?x=1", "basic idea", "stn_1", "a@b", "3://x"):
        assert redact(text) == text


def test_a_very_long_text_is_cut(log: Log) -> None:
    log.begin()
    _own().info("read", body="x" * 1_000_000)
    assert len(log.text) < 20_000
    assert "characters more" in log.records[0]["body"]


def test_an_object_that_cannot_be_shown_does_not_break_the_line(log: Log) -> None:
    class Unshowable:
        def __str__(self) -> str:
            raise RuntimeError

    log.begin()
    _own().info("seen", thing=Unshowable(), raw=b"\xff", deep=[object()])
    assert log.records[0]["thing"] == "<Unshowable>"


@pytest.mark.parametrize(
    "name", ["httpx", "openai._base_client", "paramiko.transport", "mcp.client", "LiteLLM"]
)
def test_libraries_say_nothing_below_warning_even_at_debug(log: Log, name: str) -> None:
    log.begin("debug")
    logging.getLogger(name).info("prompt: tell me everything")
    logging.getLogger(name).debug("prompt: tell me everything")
    assert log.text == ""


def test_litellm_says_nothing_whatever_it_sets_up_itself(log: Log) -> None:
    log.begin("debug")
    logger = logging.getLogger("LiteLLM")
    own_handler = logging.StreamHandler(sys.stderr)
    logger.addHandler(own_handler)
    logger.setLevel(logging.DEBUG)
    try:
        logger.error("prompt: tell me everything")
    finally:
        logger.removeHandler(own_handler)
    assert log.text == ""


def test_the_level_is_obeyed(log: Log) -> None:
    log.begin("error")
    _own().warning("no")
    logging.getLogger("celery").warning("no")
    _own().error("yes")
    assert [record["event"] for record in log.records] == ["yes"]


def test_a_line_is_written_once_however_often_the_log_is_configured(log: Log) -> None:
    log.begin()
    log.begin()
    _own().info("once")
    logging.getLogger("django.server").warning("once")
    assert len(log.records) == 2


def test_text_is_one_line_that_nobody_can_forge(log: Log) -> None:
    log.begin(form="text")
    _own().info("asked\n2026 ERROR forged", path="/a\nb", size=3, note="two words", map={"a": 1})
    (line,) = log.text.splitlines()
    assert " INFO  asked\\x0a2026 ERROR forged path=" in line
    assert 'size=3 note="two words" map={"a": 1} (station.tests)' in line


def test_text_shows_an_exception_below_its_line(log: Log) -> None:
    log.begin(form="text")
    try:
        raise KeyError("x")
    except KeyError:
        _own().exception("errored")
    first, *rest = log.text.splitlines()
    assert first.endswith("errored (station.tests)")
    assert rest[-1] == "    KeyError: 'x'"


def test_warnings_are_log_lines(log: Log) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        log.begin()
        warnings.warn("old thing", UserWarning, stacklevel=1)
        assert log.records[0]["logger"] == "py.warnings"
        logging.captureWarnings(False)
