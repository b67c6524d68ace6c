"""Whatever an artefact starts is a command that Station has."""

import json
import re
import shlex

import pytest

from tests.integration.deploy.artefacts import COMPOSE, ROOT, documents, helped, pods


def _started() -> set[tuple[str, ...]]:
    (compose,) = documents(COMPOSE / "docker-compose.prod.yml")
    services = compose["services"]
    commands = {tuple(services[name]["command"]) for name in ("station", "migrate")}
    commands |= {tuple(pod["containers"][0]["args"]) for pod in pods().values()}
    default = re.search(r"^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    unit = re.search(
        r"^ExecStart=(.+)$", (ROOT / "deploy/systemd/station.service").read_text(), re.MULTILINE
    )
    assert default
    assert unit
    return commands | {tuple(json.loads(default[1])), tuple(shlex.split(unit[1])[1:])}


@pytest.mark.parametrize("argv", sorted(_started()), ids=" ".join)
def test_what_is_started_is_a_command_of_station(argv: tuple[str, ...]) -> None:
    finished = helped(*argv)

    assert finished.returncode == 0, finished.stderr


def test_every_role_has_a_pod() -> None:
    assert set(pods()) == {"web", "worker", "keeper", "ssh", "mcp", "migrate"}


def test_a_command_that_station_has_not_is_noticed() -> None:
    assert helped("no-such-role").returncode != 0
