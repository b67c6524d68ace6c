"""The readiness checks every process of Station has."""

import pkgutil
from importlib.util import find_spec
from typing import Any

import psycopg
import redis
from django.apps import apps
from django.db import connections

from station.config import current

_SECONDS = 2
_migrated: list[bool] = []


def database() -> str:
    """PostgreSQL takes a new connection and answers on it. It needs no place in the pool."""
    try:
        with _connected() as connection:
            connection.execute("SELECT 1")
    except psycopg.Error:
        return "PostgreSQL does not answer"
    return ""


def migrations() -> str:
    """Every migration of this code is applied; further ones (a newer release's) do not matter.

    Once true, it is not asked again in this process.
    """
    if _migrated:
        return ""
    try:
        with _connected() as connection:
            rows = connection.execute("SELECT app, name FROM django_migrations").fetchall()
    except psycopg.errors.UndefinedTable:
        return "no migration is applied; run `station migrate`"
    except psycopg.Error:
        return "PostgreSQL does not answer"
    missing = len(_own_migrations() - {(str(app), str(name)) for app, name in rows})
    if missing:
        return f"{missing} migrations are not applied; run `station migrate`"
    _migrated.append(True)
    return ""


def doorbell() -> str:
    """Redis answers. Without it work starts later and streams are less lively; nothing is lost."""
    url = current().redis.url.get_secret_value()
    client = redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1)
    try:
        client.ping()
    except redis.RedisError:
        return "Redis does not answer"
    finally:
        client.close()
    return ""


def model() -> str:
    """A default model is configured. Whether its provider answers, runs find out."""
    ai = current().ai
    if ai.model is None:
        return "ai.model is not set; agents that name no model cannot run"
    if ai.api_key is None and ai.base_url is None:
        return "ai.api_key is not set"
    return ""


def _connected() -> "psycopg.Connection[Any]":
    wrapper = connections["default"]
    parameters = {
        name: value
        for name, value in wrapper.get_connection_params().items()
        if name not in ("cursor_factory", "context", "prepare_threshold")
    }
    parameters["connect_timeout"] = _SECONDS
    return psycopg.connect(**parameters, autocommit=True)


def _own_migrations() -> set[tuple[str, str]]:
    """``(app, name)`` of every migration file; the modules themselves are not imported."""
    found: set[tuple[str, str]] = set()
    for app in apps.get_app_configs():
        package = find_spec(f"{app.name}.migrations")
        folders = package.submodule_search_locations if package else None
        found |= {
            (app.label, module.name)
            for module in pkgutil.iter_modules(folders or ())
            if not module.ispkg and module.name[0] not in "_~"
        }
    return found
