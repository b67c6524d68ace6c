"""One web process for the tests that only ask it things."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import DjangoDbBlocker

from tests.integration.web.serving import Web, web


@pytest.fixture(scope="module")
def served(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Web]:
    with web(tmp_path_factory.mktemp("web")) as process:
        yield process


@pytest.fixture
def folder(django_db_setup: None, tmp_path: Path) -> Path:
    return tmp_path
