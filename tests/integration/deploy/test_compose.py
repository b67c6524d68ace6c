"""deploy/compose/docker-compose.prod.yml and what it needs."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from station.config import load
from tests.integration.deploy.artefacts import (
    COMPOSE,
    STATION_VARIABLES,
    documents,
    interpolated,
)


@pytest.fixture(scope="module")
def compose() -> Any:
    return interpolated(documents(COMPOSE / "docker-compose.prod.yml")[0])


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    return _make(tmp_path)


def _make(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    script = shutil.copy(COMPOSE / "secrets.sh", tmp_path)
    subprocess.run(["sh", script, folder], check=True, capture_output=True, timeout=30)
    return folder


def test_the_secrets_that_the_file_names_are_the_ones_the_script_makes(
    compose: Any, secrets: Path
) -> None:
    named = {Path(secret["file"]).name for secret in compose["secrets"].values()}

    assert named == {path.name for path in secrets.iterdir()}


def test_the_database_url_fits_the_database(compose: Any, secrets: Path) -> None:
    url = conninfo_to_dict((secrets / "database_url").read_text().strip())
    database = compose["services"]["db"]["environment"]

    assert url["user"] == database["POSTGRES_USER"]
    assert url["dbname"] == database["POSTGRES_DB"]
    assert url["password"] == (secrets / "db_password").read_text().strip()
    assert url["host"] in compose["services"]


def test_making_the_secrets_again_keeps_them(tmp_path: Path, secrets: Path) -> None:
    before = {path.name: path.read_text() for path in secrets.iterdir()}

    assert {path.name: path.read_text() for path in _make(tmp_path).iterdir()} == before


def test_only_the_owner_enters_the_folder_of_the_secrets(secrets: Path) -> None:
    assert secrets.stat().st_mode & 0o777 == 0o700


def test_station_starts_with_this_environment_and_this_file(compose: Any, secrets: Path) -> None:
    environment = {
        name: value.replace("/run/secrets", str(secrets))
        for name, value in compose["services"]["station"]["environment"].items()
        if name in STATION_VARIABLES
    }
    environment["STN_CONFIG"] = str(COMPOSE / "config" / "station.yaml")

    config = load(environ=environment)

    assert config.log.format == "json"
    assert config.redis.url.get_secret_value() == (secrets / "redis_url").read_text().strip()


def test_every_variable_of_station_is_one_it_knows(compose: Any) -> None:
    given = {
        name
        for service in compose["services"].values()
        for name in service.get("environment", {})
        if name.startswith("STN_")
    }

    assert given <= STATION_VARIABLES


def test_ports_are_published_on_loopback_unless_told_otherwise(compose: Any) -> None:
    published = [port for s in compose["services"].values() for port in s.get("ports", [])]

    assert published == ["127.0.0.1:8080:8080", "127.0.0.1:2222:2222"]


def test_station_waits_for_the_migration_and_for_what_it_talks_to(compose: Any) -> None:
    conditions = compose["services"]["station"]["depends_on"]

    assert conditions == {
        "migrate": {"condition": "service_completed_successfully"},
        "db": {"condition": "service_healthy"},
        "valkey": {"condition": "service_healthy"},
    }
    assert all(compose["services"][name]["healthcheck"]["test"] for name in ("db", "valkey"))


def test_every_mounted_file_is_shipped(compose: Any) -> None:
    sources = [
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
    ]

    assert [s for s in sources if s.startswith(".") and not (COMPOSE / s).exists()] == []
