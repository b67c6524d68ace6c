"""One log for everything: structlog and the standard library, JSON or text, on standard error.

Every line has ``timestamp`` (UTC, ISO 8601), ``level``, ``logger``, ``event`` and what is bound
to the context (see :mod:`station.observe.context`); an exception is text in ``exception``.
Secrets are masked. Only Station's own loggers speak below ``warning``: libraries know prompts and
arguments, and have their own idea of what to print about them.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from station.config import ConfigError, current
from station.observe.redaction import Redaction, configured_secrets

OWN = ("station", "runs", "agents", "toolservers", "mcpgw", "sshgw", "__main__")
"""The loggers that follow the configured level."""
_PROCESSES = ("gunicorn", "gunicorn.error", "celery", "celery.worker", "kombu")
"""Libraries whose ``info`` tells of processes, not of people's work."""
_NOISY = {
    "celery.app.trace": logging.ERROR,
    "celery.worker.strategy": logging.ERROR,
    "django.request": logging.ERROR,
    "django.security": logging.ERROR,
}
_MUTE = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
"""Printed prompts; its failures come as exceptions and are logged by runs."""


def configure(settings: Mapping[str, str]) -> None:
    """Take over logging in this process. May be called again.

    Args:
        settings: ``level`` (debug, info, warn, error) and ``format`` (json, text), as in the
            configuration's ``log``. Django calls this as its ``LOGGING_CONFIG``.
    """
    level = logging.WARNING if settings["level"] == "warn" else _LEVELS[settings["level"]]
    render: Processor = _as_json if settings["format"] == "json" else _as_text
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = StandardError()
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[structlog.contextvars.merge_contextvars],
            processors=[_standard_fields, _redaction(), render],
        )
    )
    root = logging.getLogger()
    for former in [h for h in root.handlers if isinstance(h, StandardError)]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(max(level, logging.WARNING))
    _set_levels(level)
    logging.captureWarnings(True)


class StandardError(logging.StreamHandler[TextIO]):
    """Writes to whatever ``sys.stderr`` is at the moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property  # an attribute there; pytest and daemons replace sys.stderr while we run
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "error": logging.ERROR}


def _set_levels(level: int) -> None:
    for name in ("django", "django.server"):  # Django gave these handlers of their own
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for name in OWN:
        logging.getLogger(name).setLevel(level)
    for name in _PROCESSES:
        logging.getLogger(name).setLevel(max(level, logging.INFO))
    for name, least in _NOISY.items():
        logging.getLogger(name).setLevel(max(level, least))
    for name in _MUTE:
        # A filter, because the library sets levels and adds handlers when it is imported later.
        logging.getLogger(name).filters[:] = [_nothing]


def _nothing(_record: logging.LogRecord) -> bool:
    return False


def _redaction() -> Redaction:
    try:
        return Redaction(configured_secrets(current()))
    except ConfigError:  # logging about a broken configuration knows no secrets
        return Redaction()


def _standard_fields(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    record: logging.LogRecord = event_dict.pop("_record")
    event_dict.pop("_from_structlog", None)
    error = event_dict.pop("exc_info", None) or record.exc_info
    fields: EventDict = {
        "timestamp": _timestamp(record.created),
        "level": "warn" if record.levelno == logging.WARNING else record.levelname.lower(),
        "logger": record.name,
        "event": event_dict.pop("event", ""),
        **event_dict,
    }
    if error:
        fields["exception"] = _exception(error)
    return fields


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _exception(error: object) -> str:
    """The traceback of what ``exc_info`` was set to: an exception, a triple, or just true."""
    if isinstance(error, tuple):
        error = error[1]
    elif not isinstance(error, BaseException):
        error = sys.exc_info()[1]
    if not isinstance(error, BaseException):
        return ""
    trace: TracebackType | None = error.__traceback__
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()


def _as_json(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
    return json.dumps(event_dict, ensure_ascii=False, default=str)


_BARE = re.compile(r"[^\s\"'=\x00-\x1f\x7f-\x9f]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _as_text(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
    """One line, ``time LEVEL event key=value … (logger)``, and the exception below it.

    Control characters are escaped, so that nobody's input can fake a line or drive a terminal.
    """
    moment, level = event_dict.pop("timestamp"), event_dict.pop("level")
    logger, event = event_dict.pop("logger"), event_dict.pop("event")
    exception = event_dict.pop("exception", "")
    pairs = "".join(f" {name}={_bare(value)}" for name, value in event_dict.items())
    line = f"{moment} {level.upper():<5} {_escaped(str(event))}{pairs} ({logger})"
    for below in str(exception).splitlines():
        line += f"\n    {_escaped(below)}"
    return line


def _bare(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if _BARE.fullmatch(text):
        return text
    return _escaped(text if text[:1] in "[{" and text else json.dumps(text, ensure_ascii=False))


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
