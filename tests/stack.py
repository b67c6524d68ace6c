"""The pytest plugin that gives a test session its own PostgreSQL and Valkey.

Loaded by `-p tests.stack` before pytest-django reads the settings. One process starts the
services: the session itself, or the controller of pytest-xdist, whose workers find them in their
environment. Databases stay apart by pytest-django's suffix, Valkey databases by number.

`tests.stack.services` has the addresses; `new_folder()`, or the fixture `service_folder`, is for
tests that start services of their own.
"""

import atexit
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from station.embedded import throwaway
from station.embedded.postgres import Postgres
from station.embedded.valkey import DATABASES, Valkey

PREFIX = "station-tests-"
ROOT_VARIABLE = "STATION_TESTS_ROOT"
WORKER_VARIABLE = "PYTEST_XDIST_WORKER"
POSTGRES_SETTINGS = {
    # Commits still reach the kernel, so a killed server loses none; a killed machine may.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
}


@dataclass(frozen=True, kw_only=True)
class Services:
    """What this test process may use."""

    root: Path
    """A folder of the session; any user can pass through it, and it goes when the session ends."""
    database_url: str
    redis_url: str
    """With the number of this worker's own Valkey database."""
    postgres: Postgres | None
    """The server itself, in the process that started it; None in a worker of pytest-xdist."""
    valkey: Valkey | None


services: Services
"""Set before any test module is imported."""


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Start or find the services before Django's settings are read."""
    global services  # noqa: PLW0603 - a pytest plugin is a module; this is its one state
    if "services" not in globals():
        services = _found() if WORKER_VARIABLE in os.environ else _started()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Stop what this process started."""
    _end()


@pytest.fixture
def service_folder() -> Iterator[Path]:
    """A new folder for a service of the test's own; removed afterwards.

    pytest's `tmp_path` will not do as root: the account that PostgreSQL runs as cannot enter it.
    """
    folder = new_folder()
    yield folder
    shutil.rmtree(folder)


def new_folder() -> Path:
    """A new folder that a service of the test's own can use; the session's end removes it."""
    folder = Path(tempfile.mkdtemp(prefix="own-", dir=services.root))
    folder.chmod(0o711)
    return folder


def _started() -> Services:
    for name in [name for name in os.environ if name.startswith("STN_")]:
        del os.environ[name]
    throwaway.sweep(PREFIX)
    root = throwaway.new_folder(PREFIX)
    atexit.register(_end)
    postgres = Postgres(root, settings=POSTGRES_SETTINGS)
    valkey = Valkey(root)
    postgres.start()
    valkey.start()
    os.environ[ROOT_VARIABLE] = str(root)
    os.environ["STN_ENCRYPTION_KEY"] = secrets.token_hex(32)
    os.environ["STN_DATABASE_URL"] = postgres.url
    return _settled(root, valkey.url, postgres, valkey)


def _found() -> Services:
    return _settled(Path(os.environ[ROOT_VARIABLE]), os.environ["STN_REDIS_URL"], None, None)


def _settled(
    root: Path, redis_url: str, postgres: Postgres | None, valkey: Valkey | None
) -> Services:
    worker = os.environ.get(WORKER_VARIABLE, "gw0")
    number = int(re.sub(r"\D", "", worker)) % DATABASES
    redis_url = f"{redis_url.rpartition('/')[0]}/{number}"
    data_dir = root / f"data-{worker}"
    data_dir.mkdir(mode=0o700, exist_ok=True)
    os.environ["STN_REDIS_URL"] = redis_url
    os.environ["STN_DATA_DIR"] = str(data_dir)
    return Services(
        root=root,
        database_url=os.environ["STN_DATABASE_URL"],
        redis_url=redis_url,
        postgres=postgres,
        valkey=valkey,
    )


def _end() -> None:
    mine = globals().get("services")
    if not isinstance(mine, Services) or mine.postgres is None or mine.valkey is None:
        return
    atexit.unregister(_end)
    mine.valkey.stop()
    mine.postgres.remove()  # its data may lie elsewhere, see station.embedded.site
    shutil.rmtree(mine.root, ignore_errors=True)
