from collections.abc import Iterator
from pathlib import Path

import pytest

from station.accounts import services
from station.accounts.models import User
from tests.factories import OPERATOR
from tests.integration.sshgw.client import Commands, Key, Ssh, make_key, running


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return make_key(tmp_path_factory.mktemp("ssh"))


@pytest.fixture(scope="session")
def other_key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return make_key(tmp_path_factory.mktemp("ssh"))


@pytest.fixture
def alice(transactional_db: None, key: Key) -> User:
    user = services.create_user(OPERATOR, username="alice")
    services.add_ssh_key(OPERATOR, public_key=key.public, name="laptop", username="alice")
    return user


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def ssh(alice: User, commands: Commands, key: Key) -> Iterator[Ssh]:
    """Alice at her client, with a gateway that knows her."""
    with running(commands) as gateway:
        yield Ssh(port=gateway.port, key=key, user="alice")


@pytest.fixture
def authorized_keys(tmp_path: Path) -> Path:
    path = tmp_path / "authorized_keys"
    path.touch(mode=0o600)
    return path
