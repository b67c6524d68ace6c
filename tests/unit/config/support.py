"""What the configuration's tests share: a minimal environment and a file that says something."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from station.config import Config, ConfigError, load

HERE = Path(__file__).parent
REQUIRED = {
    "STN_DATABASE_URL": "postgresql://station:hunter2@db:5432/station",
    "STN_REDIS_URL": "redis://:hunter2@redis:6379/0",
    "STN_ENCRYPTION_KEY": "0123456789abcdef" * 4,
}


def nested(path: str, value: object) -> dict[str, object]:
    """``{"api": {"port": value}}`` for ``api.port``."""
    for name in reversed(path.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def write(folder: Path, text: str) -> str:
    file = folder / "station.yaml"
    file.write_text(text)
    return str(file)


def load_text(folder: Path, text: str = "", **variables: str) -> Config:
    """Load a file of this text under the required variables and ``variables``.

    There is always a file, so that one in /etc is never read.
    """
    return load(write(folder, text), REQUIRED | variables)


def problems_of(folder: Path, text: str = "", **variables: str) -> dict[str, str]:
    """The problems with that configuration, by path; there must be some."""
    return told(write(folder, text), REQUIRED | variables)


def told(path: str, environ: Mapping[str, str]) -> dict[str, str]:
    try:
        load(path, environ)
    except ConfigError as error:
        return {p.path: f"{p.source}|{p.problem}|{p.fix}" for p in error.problems}
    raise AssertionError("the configuration was accepted")


def value_at(config: Config, path: str) -> object:
    value: object = config
    for name in path.split("."):
        value = getattr(value, name)
    return value


def key(path: str, value: object) -> str:
    """YAML text that sets one key."""
    return yaml.safe_dump(nested(path, value))
