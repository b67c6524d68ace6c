"""Valkey goes away: what runs goes on, and can be cancelled."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from kombu.connection import Connection

from runs import services, tasks
from station.embedded.valkey import Valkey
from tests import factories, stack
from tests.acceptance.runs.stage import Stage
from tests.processes import Crew, until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def valkey(
    database: None, config: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Valkey]:
    """The Valkey of a worker; not the one this process rings at."""
    with (
        Valkey(stack.new_folder()) as server,
        Crew(tmp_path_factory.mktemp("valkey"), config, redis_url=server.url) as crew,
    ):
        crew.worker(execution_queue={"workers": 2})
        yield server


def test_without_valkey_a_run_goes_on_and_can_be_cancelled(valkey: Valkey, stage: Stage) -> None:
    thinking, cancelled = stage.submit("think", tools=()), stage.submit("think-long", tools=())
    with Connection(valkey.url) as connection:  # type: ignore[no-untyped-call]
        for _ in range(2):
            tasks.serve.apply_async(connection=connection)
    until(lambda: stage.asked(thinking) and stage.asked(cancelled), what="the questions")
    valkey.stop()
    begun = time.monotonic()
    services.cancel(factories.OPERATOR, cancelled)
    assert stage.ended(cancelled, within=3).status == "cancelled"
    assert time.monotonic() - begun < 3
    assert stage.ended(thinking).status == "succeeded"
