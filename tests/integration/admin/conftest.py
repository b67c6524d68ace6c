"""The world of the REST tests, looked at through a browser's eyes: a logged-in client a role."""

from collections.abc import Callable

import pytest
from django.test import Client

from tests.integration.api.world import World, build

Visitor = Callable[[str], Client]


@pytest.fixture
def world(db: None) -> World:
    return build()


@pytest.fixture
def visit(world: World) -> Visitor:
    """``visit(role)``: a client logged in as the person with that role in environment ``own``."""

    def client(role: str) -> Client:
        made = Client(raise_request_exception=True)
        if role != "anonymous":
            made.force_login(world.users[role])
        return made

    return client
