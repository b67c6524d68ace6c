"""A world for each REST test."""

from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator

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


@pytest.fixture(scope="session")
def openapi() -> dict[str, Any]:
    generator = SchemaGenerator()  # type: ignore[no-untyped-call]
    document: dict[str, Any] = generator.get_schema(public=True)  # type: ignore[no-untyped-call]
    return document
