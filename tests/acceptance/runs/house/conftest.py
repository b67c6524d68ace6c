"""Two workers that all tests of this folder share."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.processes import Crew, Process


@pytest.fixture(scope="package")
def house(
    database: None, config: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Process]]:
    """Two workers with four slots each, and a keeper: for tests that do them no harm."""
    with Crew(tmp_path_factory.mktemp("house"), config) as crew:
        crew.start("keeper")
        yield crew.workers(2, execution_queue={"workers": 4})
