"""A hundred followers of a live run beside normal requests, on one web process."""

import asyncio
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from django.db import connection

from runs.entries import Kind
from runs.models import Run
from station.accounts import services as accounts
from tests import factories
from tests.acceptance.runs.stage import Stage, events
from tests.processes import Crew, Process, until

pytestmark = pytest.mark.django_db(transaction=True)
FOLLOWERS = 100
CONNECTIONS = 6
PATIENCE = 90.0
_ID = re.compile(rb"^id: (\d+)\r?$", re.MULTILINE)


@pytest.fixture(scope="module")
def web(
    database: None, config: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Process, str]]:
    with Crew(tmp_path_factory.mktemp("followers"), config) as crew:
        yield crew.web(database={"max_connections": CONNECTIONS, "max_idle_connections": 1})


@pytest.fixture
def key(database: None) -> str:
    accounts.create_user(factories.OPERATOR, username="follower", platform_admin=True)
    return accounts.create_api_key(factories.OPERATOR, name="key", username="follower")[1]


class Followers:
    """``count`` streams of one run, read side by side on a thread of their own."""

    def __init__(self, url: str, key: str, run: Run, count: int) -> None:
        self._address, self._key, self._run, self._count = httpx.URL(url), key, run, count
        self.open = 0
        self.seen: list[list[int]] = []

    def read(self) -> None:
        """Follow until every stream has ended."""
        asyncio.run(self._read())

    async def _read(self) -> None:
        async with asyncio.timeout(PATIENCE):
            self.seen = await asyncio.gather(*(self._follow() for _ in range(self._count)))

    async def _follow(self) -> list[int]:
        reader, writer = await asyncio.open_connection(self._address.host, self._address.port)
        writer.write(
            f"GET /api/v1/runs/{self._run.pk}/stream HTTP/1.1\r\nHost: {self._address.host}\r\n"
            f"Authorization: Bearer {self._key}\r\nConnection: close\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        self.open += 1
        body = await reader.read()
        while chunk := await reader.read():
            body += chunk
        writer.close()
        return [int(number) for number in _ID.findall(body)]


def test_all_followers_get_every_event_while_requests_are_answered(
    house: list[Process], stage: Stage, web: tuple[Process, str], key: str, tmp_path: Path
) -> None:
    process, url = web
    run = stage.submit("note-16-times")
    until(lambda: stage.effects(run), what="the first step")
    followers = Followers(url, key, run, FOLLOWERS)
    with (
        ThreadPoolExecutor(1) as thread,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}) as client,
    ):
        before = _threads(process)
        reading = thread.submit(followers.read)
        until(lambda: followers.open == FOLLOWERS or reading.done(), what="a hundred streams")
        took = []
        most_threads = most_connections = 0
        while Run.objects.get(pk=run.pk).status == "running":
            begun = time.monotonic()
            assert client.get("/api/v1/runs", timeout=10).status_code == 200
            took.append(time.monotonic() - begun)
            most_threads = max(most_threads, _threads(process))
            most_connections = max(most_connections, _connections(process))
        reading.result(timeout=PATIENCE)
    assert stage.ended(run).status == "succeeded"
    everything = [event.seq for event in events(run)]
    assert events(run)[-1].kind == Kind.FINISHED
    assert followers.seen == [everything] * FOLLOWERS
    assert len(took) > 5
    assert sorted(took)[len(took) // 2] < 1
    assert max(took) < 10
    assert most_threads - before < 20
    assert 0 < most_connections <= CONNECTIONS


def _tree(process: Process) -> list[psutil.Process]:
    master = psutil.Process(process.pid)
    return [master, *master.children(recursive=True)]


def _threads(process: Process) -> int:
    return max(one.num_threads() for one in _tree(process))


def _connections(process: Process) -> int:
    """Connections from the web process to PostgreSQL now."""
    port = int(connection.settings_dict["PORT"])
    return max(
        sum(bool(link.raddr) and link.raddr.port == port for link in one.net_connections("tcp"))
        for one in _tree(process)
    )
