"""A scripted model, and workers that share it, for the tests with real processes."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from pytest_django import DjangoDbBlocker

from runs.scripted.testing import ScriptedModel
from tests.acceptance.runs.hostile_stage import impatient_worker
from tests.acceptance.runs.stage import SCRIPTS, Stage
from tests.processes import Process

LEASE = 6.0


@pytest.fixture(scope="package")
def database(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The test database, emptied when the processes of all these tests are gone."""
    with django_db_blocker.unblock():
        yield
        with connection.cursor() as cursor:  # what killed processes may have left
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]  # it has lost its connections, too
        call_command("flush", interactive=False, verbosity=0)


@pytest.fixture
def _django_db_helper(database: None) -> None:
    """Instead of pytest-django's: emptying tables after each test would deadlock with processes
    that work on them."""


@pytest.fixture(scope="session")
def model() -> Iterator[ScriptedModel]:
    with ScriptedModel(SCRIPTS) as scripted:
        yield scripted


@pytest.fixture(scope="session")
def config(model: ScriptedModel) -> Mapping[str, Any]:
    """The configuration file: everything is quick to lose patience."""
    return {
        "execution_queue": {
            "workers": 12,
            "lease": f"{LEASE}s",
            "heartbeat": "500ms",
            "keeper_tick": "500ms",
            "shutdown_grace": "4s",
        },
        # The tests share one provider: what some of them do to it is not the others' business.
        "ai": {"base_url": model.base_url, "api_key": "none", "circuit_failures": 0},
        "mcp": {"stdio_commands": [sys.executable], "request_timeout": "20s"},
        "database": {"max_connections": 8, "max_idle_connections": 1},
        "api": {"drain_delay": "0s"},
    }


@pytest.fixture
def stage(database: None, model: ScriptedModel, tmp_path: Path) -> Stage:
    return Stage(model, tmp_path)


@pytest.fixture(scope="module")
def worker(
    database: None,
    hostile: ScriptedModel,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Process]:
    """One worker for all a module does to it: ``SLOTS`` runs at once, of a ``hostile`` model."""
    folder = tmp_path_factory.mktemp("hostile")
    with impatient_worker(folder, hostile, slots=request.module.SLOTS) as process:
        yield process
