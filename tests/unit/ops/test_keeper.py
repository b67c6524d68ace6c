"""The keeper's round: which job it calls when, whatever the jobs do."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from prometheus_client import REGISTRY

from station.core import jobs
from station.ops import keeper

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def no_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper knows no jobs but the test's."""
    monkeypatch.setattr(jobs, "_jobs", {})


class Stop(threading.Event):
    """Tells the keeper to stop, and knows how long it is waiting for that."""

    waiting = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.waiting = timeout or 0.0
        return super().wait(timeout)


class Round:
    """A keeper on a thread of its own, and the calls it made."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.stop = Stop()
        self.thread = threading.Thread(target=keeper.run, args=(self.stop,), daemon=True)

    def job(self, name: str, *, every: float, work: Callable[[], object] = lambda: None) -> None:
        def called() -> None:
            self.calls.append(name)
            work()

        jobs.register(name, every=every, run=called)

    def until(self, holds: Callable[[], bool]) -> None:
        """Let it go round until ``holds()``."""
        if not self.thread.ident:
            self.thread.start()
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline
            assert self.thread.is_alive(), "the keeper has stopped by itself"
            time.sleep(0.002)

    def end(self) -> None:
        self.stop.set()
        self.thread.join(timeout=PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def round_() -> Iterator[Round]:
    going = Round()
    yield going
    if going.thread.ident:
        going.end()


def errors() -> float:
    return REGISTRY.get_sample_value("station_errors_total", {"component": "keeper"}) or 0.0


def test_every_job_is_called_at_once_and_then_at_its_own_pace(round_: Round) -> None:
    round_.job("often", every=0.01)
    round_.job("seldom", every=3600)
    round_.until(lambda: round_.calls.count("often") > 5)
    assert round_.calls[:2] == ["often", "seldom"]
    assert round_.calls.count("seldom") == 1


def test_a_failing_job_is_logged_and_counted_and_does_not_stop_the_others_nor_itself(
    round_: Round, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("the inside")

    before = errors()
    round_.job("bad", every=0.01, work=fail)
    round_.job("good", every=0.01)
    round_.until(lambda: min(map(round_.calls.count, ("bad", "good"))) >= 3)
    round_.end()
    assert errors() - before == round_.calls.count("bad")
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == round_.calls.count("bad")
    for part in ("job_failed", "bad", "exc_info"):
        assert part in told[0].getMessage()


def test_a_keeper_that_is_told_to_stop_finishes_its_present_job_and_begins_no_other(
    round_: Round,
) -> None:
    go_on = threading.Event()
    finished: list[str] = []

    def work() -> None:
        assert go_on.wait(PATIENCE)
        finished.append("present")

    round_.job("present", every=0.001, work=work)
    round_.job("next", every=0.001)
    round_.until(lambda: round_.calls == ["present"])
    round_.stop.set()
    assert round_.thread.is_alive()
    go_on.set()
    round_.end()
    assert finished == ["present"]
    assert round_.calls == ["present"]


def test_a_keeper_that_waits_for_its_next_job_stops_at_once_and_calls_it_not(
    round_: Round,
) -> None:
    round_.job("seldom", every=3600)
    round_.until(lambda: round_.stop.waiting > 1)
    round_.end()
    assert round_.calls == ["seldom"]


def test_a_job_that_took_longer_than_its_pace_is_not_called_twice_in_a_row(round_: Round) -> None:
    pace, longer = 0.01, 0.05

    round_.job("slow", every=pace, work=lambda: threading.Event().wait(longer))
    round_.job("other", every=4 * pace)  # due again before the slow one is done
    round_.until(lambda: len(round_.calls) >= 9)
    assert ("slow", "slow") not in pairwise(round_.calls)
