"""One log for everything: structlog and the standard library, JSON or text, on standard error.

Every line has ``timestamp`` (UTC, ISO 8601), ``level``, ``logger``, ``event`` and what is bound
to the context (see :mod:`station.observe.context`); an exception is text in ``exception``.
Secrets are masked. Only Station's own loggers speak below ``warning``: libraries know prompts and
arguments, and have their own idea of what to print about them.
"""

import json
import logging
import sys
from collections.abc import Mapping
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
_NOISY = {"celery.app.trace": logging.ERROR, "celery.worker.strategy": logging.ERROR,
          "django.request": logging.ERROR, "django.security": logging.ERROR}
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

    @property
    def stream(self) -> TextIO:  # type: ignore[override] - a property over an attribute, on purpose
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
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _exception(error: object) -> str:
    if isinstance(error, BaseException):
        error = (type(error), error, error.__traceback__)
    elif not isinstance(error, tuple):
        error = sys.exc_info()
    return "" if error[0] is None else structlog.processors._format_exception(error)


def _as_json(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
    return json.dumps(event_dict, ensure_ascii=False, default=str)


def _as_text(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
    return repr(event_dict)
