"""Getting ready for operator commands: configuration, Django without its web parts, the registry.

A command lives for a moment, so what only servers need is left out: the web apps (0.3 s to
import) and the database pool (threads that would have to be stopped again).
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from station.core.errors import Kind, StationError

if TYPE_CHECKING:
    from station.commands.registry import Registry
    from station.config import Config, ConfigError

SUMMARIES: Mapping[str, str] = {
    "agent": "Agents: define, run, pause, and read what they did.",
    "env": "Environments: the walls between tenants.",
    "key": "API keys, and the SSH keys that open the gateway.",
    "mcp": "Tool servers (MCP) and their tools.",
    "queue": "How the queue stands; pause and resume it.",
    "run": "Runs: look at them, follow them, cancel, retry and decide them.",
    "user": "Users, their passwords and their roles.",
    "variable": "Values and secrets that an environment's tool servers get.",
}
"""The groups the apps register, with their help: `station --help` imports no app."""

_WEB_APPS = frozenset({
    "unfold", "corsheaders", "django_filters", "django_prometheus", "drf_spectacular",
    "rest_framework", "django.contrib.admin", "django.contrib.messages",
    "django.contrib.sessions", "django.contrib.staticfiles",
})  # fmt: skip


class NotConfigured(StationError):
    """Station's configuration cannot be used."""

    code = "invalid_configuration"
    kind = Kind.FAILED

    def __init__(self, cause: "ConfigError", *, passed_over: str | None) -> None:
        """``passed_over``: why the settings of a `station up` in this folder were not used."""
        self._cause = cause
        unset = any(p.path == "database.url" and not p.source for p in cause.problems)
        fix = "`station config validate` checks it."
        if unset:
            fix = (
                "Or run `station up` in this folder: it brings a PostgreSQL and a Valkey of its "
                "own, and commands called from here find them."
            )
        lines = [cause.message, *([passed_over] if passed_over else [])]
        super().__init__("\n".join(lines), fix=fix)

    def details(self) -> dict[str, object]:
        return self._cause.details()


def configuration(path: str | None = None) -> "Config":
    """The configuration of this process.

    Raises:
        NotConfigured: with every problem.
    """
    from station.cli.checkout import adopt  # noqa: PLC0415
    from station.config import ConfigError, current, load  # noqa: PLC0415 - 0.3 s

    passed_over = None if path else adopt(Path.cwd(), os.environ)
    try:
        return load(path) if path else current()
    except ConfigError as error:
        raise NotConfigured(error, passed_over=passed_over) from None


def ready() -> "Registry":
    """Set up Django, once, and return the registry with every app's commands.

    Raises:
        NotConfigured: with every problem.
    """
    configuration()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "station.settings")
    from django.apps import apps  # noqa: PLC0415
    from django.conf import settings  # noqa: PLC0415

    import station.celery  # noqa: F401, PLC0415 - no process may fall back to a default app

    if not apps.ready:
        import django  # noqa: PLC0415

        settings.INSTALLED_APPS = [a for a in settings.INSTALLED_APPS if a not in _WEB_APPS]
        for database in settings.DATABASES.values():
            database["OPTIONS"].pop("pool", None)
        django.setup()
        _log_to_a_file()
    from station.commands.registry import discovered  # noqa: PLC0415

    return discovered()


def log_file() -> Path:
    """Where operator commands log."""
    from station.config import current  # noqa: PLC0415

    return current().data_dir / "commands.log"


def _log_to_a_file() -> None:
    """Keep the log apart from what a person reads; where there is no folder for it, do not."""
    from station.embedded.files import open_log  # noqa: PLC0415

    try:
        stream = open(open_log(log_file()), "a", encoding="utf-8")  # noqa: SIM115 - stays open
    except OSError:
        return
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.StreamHandler) and not isinstance(
            handler, logging.FileHandler
        ):
            replacement = logging.StreamHandler(stream)
            replacement.setFormatter(handler.formatter)
            root.removeHandler(handler)
            root.addHandler(replacement)
