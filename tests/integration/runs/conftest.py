"""Fixtures of several files about runs."""

from collections.abc import Iterator

import pytest
import redis

from runs import tasks
from station.config import current


@pytest.fixture
def broker() -> Iterator[redis.Redis]:
    """The broker, without any bell in it."""
    with redis.Redis.from_url(current().redis.url.get_secret_value()) as client:
        client.flushdb()
        yield client


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch, broker: redis.Redis) -> list[None]:
    """The bells since the test began; they are not put into the broker."""
    bells: list[None] = []
    monkeypatch.setattr(tasks, "send_ring", lambda: bells.append(None))
    return bells
