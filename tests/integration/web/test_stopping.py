"""How a web process goes: announced, in time, and without cutting anybody off."""

import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.integration.web.serving import Web, until, web

pytestmark = pytest.mark.django_db  # pytest-django makes only databases that tests name

DRAINING: dict[str, Any] = {"api": {"drain_delay": "1s", "workers": 2}}


def _not_ready(served: Web) -> bool:
    answer = served.client.get("/ready")
    return answer.status_code == 503 and "draining" in answer.text


def test_it_says_so_while_it_still_answers_and_then_is_gone_with_exit_0(folder: Path) -> None:
    with web(folder, DRAINING) as served:
        served.terminate()
        until(lambda: _not_ready(served), seconds=5)
        assert served.client.get("/admin/login/").status_code == 200
        served.client.close()
        assert served.process.wait(25) == 0


def test_a_server_whose_workers_are_just_starting_is_gone_soon(folder: Path) -> None:
    with web(folder, {"api": {"drain_delay": "0s", "workers": 6}}) as served:
        served.terminate()
        served.client.close()
        assert served.process.wait(20) == 0


def test_a_request_in_flight_is_answered(folder: Path) -> None:
    """Its body is still coming when the process is told to stop."""
    told = threading.Event()
    with web(folder) as served:

        def slowly() -> Any:
            yield b'{"name":'
            served.terminate()
            until(lambda: not _accepts(served), seconds=10)
            told.set()
            yield b'"x"}'

        answer = httpx.post(
            f"{served.url}/api/v1/environments",
            content=slowly(),
            headers={"Content-Type": "application/json"},
            timeout=20,
        )
        assert told.is_set()
        assert answer.status_code == 401
        assert served.process.wait(25) == 0


def _accepts(served: Web) -> bool:
    try:
        httpx.get(f"{served.url}/health", timeout=1)
    except httpx.TransportError:
        return False
    return True


def test_a_connection_that_says_nothing_does_not_hold_it_up(folder: Path) -> None:
    with web(folder) as served:
        served.client.get("/health")  # stays open, idle
        began = time.monotonic()
        served.terminate()
        assert served.process.wait(25) == 0
        assert time.monotonic() - began < 12


def test_a_worker_that_is_killed_is_replaced(folder: Path) -> None:
    with web(folder) as served:
        master = psutil.Process(served.process.pid)
        (first,) = master.children()
        first.kill()
        until(lambda: [c.pid for c in master.children()] not in ([], [first.pid]), seconds=15)
        until(served.answers, seconds=15)
