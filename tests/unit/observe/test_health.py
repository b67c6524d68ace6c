"""How answers of checks become one report."""

import threading
import time
from collections.abc import Iterator

import pytest

from station.observe import health


@pytest.fixture(autouse=True)
def _own_checks() -> Iterator[None]:
    former = dict(health._checks)
    health._checks.clear()
    health._running.clear()
    yield
    health._checks.clear()
    health._checks.update(former)
    health._running.clear()


async def test_a_required_check_decides_and_another_only_degrades() -> None:
    health.register("good", lambda: "", required=True)
    health.register("late bell", lambda: "no bell", required=False)
    report = await health.report()
    assert report.ready
    assert report.public() == {
        "status": "degraded",
        "checks": {"good": "ok", "late bell": "no bell", "draining": "ok"},
        "reasons": [],
    }
    health.register("bad", lambda: "broken", required=True)
    report = await health.report()
    assert not report.ready
    assert report.public()["reasons"] == ["bad: broken"]


async def test_what_a_check_raises_is_not_told() -> None:
    def broken() -> str:
        raise RuntimeError("password is canary")

    health.register("broken", broken, required=True)
    assert "canary" not in str((await health.report()).public())
    assert not (await health.report()).ready


async def test_a_check_that_hangs_is_reported_in_time_and_not_started_again() -> None:
    release, calls = threading.Event(), []

    def hangs() -> str:
        calls.append(1)
        release.wait(30)
        return ""

    health.register("slow", hangs, required=True)
    began = time.monotonic()
    for _ in range(2):
        report = await health.report()
        assert "no answer" in report.failed["slow"]
    assert time.monotonic() - began < 2 * health.PATIENCE + 1
    assert len(calls) == 1
    release.set()


async def test_answers_of_the_last_second_are_used_again() -> None:
    calls: list[int] = []

    def counted() -> str:
        calls.append(1)
        return ""

    health.register("counted", counted, required=True)
    for _ in range(20):
        await health.report()
    assert len(calls) == 1
