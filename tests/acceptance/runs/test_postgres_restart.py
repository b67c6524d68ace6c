"""PostgreSQL restarts and crashes under running runs: no commit is lost, and the runs go on."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from runs.entries import Kind
from runs.models import Run
from runs.scripted.testing import ScriptedModel
from station.config.schema import Database
from station.embedded.postgres import Postgres
from tests import stack
from tests.acceptance.runs.stage import Stage, events, gapless
from tests.processes import Crew, until

pytestmark = pytest.mark.django_db(transaction=True)
_ADDRESS = ("NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")


@contextlib.contextmanager
def pointed_at(url: str) -> Iterator[None]:
    """Have the ORM of this process use another database."""
    mine = dict(connection.settings_dict)
    _disconnect()
    given = Database.model_validate(
        {"url": url, "max_connections": 4, "max_idle_connections": 0, "connection_timeout": "5s"}
    ).django()
    connection.settings_dict.update({key: given[key] for key in _ADDRESS})
    try:
        yield
    finally:
        _disconnect()
        connection.settings_dict.update(mine)


@pytest.fixture
def postgres(database: None) -> Iterator[Postgres]:
    with Postgres(stack.new_folder(), settings=stack.POSTGRES_SETTINGS) as server:
        with pointed_at(server.url):
            call_command("migrate", verbosity=0)
            yield server
        server.remove()


def test_runs_survive_restarts_and_a_crash_of_postgres(
    postgres: Postgres, config: Mapping[str, Any], model: ScriptedModel, tmp_path: Path
) -> None:
    patient = {"lease": "20s", "heartbeat": "1s"}
    with Crew(tmp_path, config, database_url=postgres.url) as crew:
        crew.start("keeper", execution_queue=patient)
        crew.worker(execution_queue=patient)
        stage = Stage(model, tmp_path)
        runs = [stage.submit("note-8-times") for _ in range(3)]
        for noted, restart in ((2, postgres.restart), (4, postgres.restart), (6, _crash(postgres))):
            until(lambda noted=noted: all(stage.effects(run) >= noted for run in runs))  # type: ignore[misc]
            committed = {event.pk for run in runs for event in events(run)}
            _disconnect()
            restart()
            kept = {event.pk for run in runs for event in events(run)}
            assert committed <= kept
        for run in runs:
            assert stage.ended(run, within=60).status == "succeeded"
            assert stage.effects(run) == 8
            assert stage.asked(run) == 9
            assert len(events(run, Kind.CLAIMED)) == 1
            assert gapless(run)
        assert not Run.objects.filter(crashes__gt=0).exists()


def _disconnect() -> None:
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]  # PostgreSQL's wrapper has it


def _crash(postgres: Postgres) -> Any:
    def crash() -> None:
        postgres.kill()
        postgres.start()

    return crash
