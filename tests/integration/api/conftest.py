"""A world for each REST test."""

import pytest

from tests.integration.api.world import Caller, World, build


@pytest.fixture
def world(db: None) -> World:
    return build()


@pytest.fixture
def operator(world: World) -> Caller:
    return world.callers["operator"]


@pytest.fixture
def admin(world: World) -> Caller:
    return world.callers["admin"]


@pytest.fixture
def platform(world: World) -> Caller:
    return world.callers["platform"]
