import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from agents.models import Agent
from mcpgw import http
from station.accounts import services
from station.accounts.models import Environment, User
from station.config import current
from station.core.principal import Role
from tests import factories
from tests.factories import OPERATOR
from tests.integration.mcpgw.client import DEADLINE


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """An environment with an operator, their key, and an agent."""

    environment: Environment
    user: User
    key: str
    agent: Agent


@pytest.fixture
def tenant(transactional_db: None) -> Callable[..., Tenant]:
    """Makes tenants by name."""

    def make(name: str, role: Role = Role.OPERATOR) -> Tenant:
        environment = factories.environment(f"{name}-env")
        user = services.create_user(OPERATOR, username=name)
        services.set_role(OPERATOR, username=name, environment_id=environment.pk, role=role)
        _, key = services.create_api_key(OPERATOR, name="test", username=name)
        agent = factories.agent(environment, f"{name}-agent")
        return Tenant(environment=environment, user=user, key=key, agent=agent)

    return make


@pytest.fixture
def alice(tenant: Callable[..., Tenant]) -> Tenant:
    return tenant("alice")


@pytest.fixture
def bob(tenant: Callable[..., Tenant]) -> Tenant:
    return tenant("bob")


@dataclass(frozen=True, kw_only=True)
class Running:
    """A gateway in a thread of this process."""

    url: str
    stop: threading.Event
    thread: threading.Thread


@pytest.fixture
def gateway(transactional_db: None) -> Iterator[Running]:
    listener = http.listen("127.0.0.1", 0)
    stop = threading.Event()
    thread = threading.Thread(
        target=lambda: asyncio.run(http.serve_on(listener, current(), stop)), daemon=True
    )
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield Running(url=url, stop=stop, thread=thread)
    stop.set()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    listener.close()
