"""Following a run live, with the test as its worker."""

import queue as queues
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis
from django.db import connection

from runs.bus import channel
from runs.entries import Event, Kind
from runs.follow import Delta, follow
from runs.models import Run
from station.config import current
from station.embedded.valkey import Valkey
from tests import factories, stack
from tests.integration.runs.working import Played

pytestmark = pytest.mark.django_db(transaction=True)
DEADLINE = 15.0
SOONER_THAN_A_LOOK = 2.0


class Follower:
    """Follows a run on a thread of its own; what it got can be awaited."""

    def __init__(self, run_id: int, *, after: int = 0) -> None:
        self.got: queues.Queue[Event | Delta | None] = queues.Queue()
        self.stopped = threading.Event()
        self._run_id, self._after = run_id, after
        self.thread = threading.Thread(target=self._follow)
        self.thread.start()

    def _follow(self) -> None:
        try:
            for item in follow(self._run_id, after=self._after, stopped=self.stopped.is_set):
                self.got.put(item)
            held = connection.connection is not None
            assert not held, "the follower kept its database connection"
        finally:
            connection.close()
            self.got.put(None)

    def next(self) -> Event | Delta | None:
        return self.got.get(timeout=DEADLINE)

    def event(self) -> Event:
        item = self.next()
        assert isinstance(item, Event), item
        return item

    def rest(self) -> list[Event | Delta]:
        return list(iter(self.next, None))


@contextmanager
def following(run_id: int, *, after: int = 0) -> Iterator[Follower]:
    follower = Follower(run_id, after=after)
    try:
        yield follower
    finally:
        follower.stopped.set()
        follower.thread.join(timeout=DEADLINE)
        assert not follower.thread.is_alive()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def listeners(run_id: int) -> int:
    with redis.Redis.from_url(current().redis.url.get_secret_value()) as client:
        return int(client.pubsub_numsub(channel(run_id))[0][1])


def kinds(items: list[Event | Delta]) -> list[str]:
    return [item.kind.value if isinstance(item, Event) else item.text for item in items]


def test_a_finished_run_is_told_from_its_journal() -> None:
    run = factories.run()
    played = Played()
    played.answer("Done.")
    played.finish(output="Done.")
    told = list(follow(run.pk))
    assert kinds(told) == ["run.submitted", "run.claimed", "model.answered", "run.finished"]
    assert kinds(list(follow(run.pk, after=3))) == ["run.finished"]
    assert list(follow(run.pk, after=4)) == []


def test_events_and_deltas_arrive_as_they_happen() -> None:
    run = factories.run()
    with following(run.pk) as follower:
        assert follower.event().kind is Kind.SUBMITTED
        played = Played()
        assert follower.event().kind is Kind.CLAIMED
        played.say("Do")
        assert follower.next() == Delta(step=1, text="Do")
        played.say("ne.")
        assert follower.next() == Delta(step=1, text="ne.")
        played.answer("Done.")
        answered = follower.event()
        assert (answered.seq, answered.payload["content"]) == (3, "Done.")
        played.finish()
        assert kinds(follower.rest()) == ["run.finished"]


def test_an_event_arrives_within_a_moment_and_not_by_polling() -> None:
    run = factories.run()
    with following(run.pk) as follower:
        follower.event()
        eventually(lambda: listeners(run.pk) == 1)
        begun = time.monotonic()
        Played()
        follower.event()
        assert time.monotonic() - begun < SOONER_THAN_A_LOOK


def test_deltas_of_a_step_that_is_answered_are_dropped() -> None:
    run = factories.run()
    played = Played()
    played.answer("Done.")
    with following(run.pk) as follower:
        assert [follower.event().seq for _ in range(3)] == [1, 2, 3]
        played.say("late", step=1)
        played.say("next", step=2)
        assert follower.next() == Delta(step=2, text="next")


def test_a_gap_in_the_news_is_filled_from_the_journal() -> None:
    run = factories.run()
    played = Played()
    with following(run.pk) as follower:
        assert [follower.event().seq for _ in range(2)] == [1, 2]
        eventually(lambda: listeners(run.pk) == 1)
        played.answer("lost news", news=False)
        begun = time.monotonic()
        played.answer("told")
        assert [follower.event().payload["content"] for _ in range(2)] == ["lost news", "told"]
        assert time.monotonic() - begun < SOONER_THAN_A_LOOK


def test_an_event_too_large_for_the_news_is_read_from_the_journal() -> None:
    run = factories.run()
    played = Played()
    with following(run.pk) as follower:
        assert [follower.event().seq for _ in range(2)] == [1, 2]
        eventually(lambda: listeners(run.pk) == 1)
        begun = time.monotonic()
        played.answer("x" * 300_000)
        assert len(follower.event().payload["content"]) == 300_000
        assert time.monotonic() - begun < SOONER_THAN_A_LOOK


def test_an_event_nobody_announced_is_found_within_seconds() -> None:
    run = factories.run()
    played = Played(news=False)
    with following(run.pk) as follower:
        assert [follower.event().seq for _ in range(2)] == [1, 2]
        played.finish()
        assert kinds(follower.rest()) == ["run.finished"]


def test_a_journal_longer_than_a_page_is_told_whole() -> None:
    run = factories.run()
    played = Played(news=False)
    for _ in range(450):
        played.append(Kind.MODEL_RETRIED, {"step": 1})
    played.finish()
    assert [item.seq for item in follow(run.pk) if isinstance(item, Event)] == [*range(1, 454)]


def test_a_follower_that_is_stopped_ends_soon() -> None:
    run = factories.run()
    with following(run.pk) as follower:
        follower.event()
        follower.stopped.set()
        begun = time.monotonic()
        assert follower.rest() == []
        assert time.monotonic() - begun < 2
    eventually(lambda: listeners(run.pk) == 0)


def test_following_a_run_that_is_deleted_ends() -> None:
    run = factories.run()
    with following(run.pk) as follower:
        follower.event()
        Run.objects.filter(pk=run.pk).delete()
        assert follower.rest() == []


def test_while_valkey_is_away_the_journal_is_polled_and_news_come_back(
    service_folder: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathlib import Path

    from station.config import reset

    assert isinstance(service_folder, Path)
    valkey = Valkey(service_folder)
    valkey.start()
    monkeypatch.setenv("STN_REDIS_URL", valkey.url)
    reset()
    try:
        run = factories.run()
        played = Played(news=False)
        with following(run.pk) as follower:
            assert [follower.event().seq for _ in range(2)] == [1, 2]
            eventually(lambda: listeners(run.pk) == 1)
            valkey.stop()
            played.answer("without news")
            assert follower.event().payload["content"] == "without news"
            valkey.start()
            eventually(lambda: listeners(run.pk) == 1)
            played.say("back")
            assert follower.next() == Delta(step=2, text="back")
    finally:
        valkey.stop()
        monkeypatch.undo()
        reset()
    assert stack.services.redis_url == current().redis.url.get_secret_value()


def test_a_transition_keeps_a_follower_through_a_requeue() -> None:
    run = factories.run()
    with following(run.pk) as follower:
        played = Played()
        assert [follower.event().seq for _ in range(2)] == [1, 2]
        from runs import transitions

        moved = transitions.hand_back(run.pk, played.fence, reason="drained")
        assert moved is not None
        assert follower.event().kind is Kind.RELEASED
        Played().finish()
        assert kinds(follower.rest()) == ["run.claimed", "run.finished"]
    assert Run.objects.get().status == "succeeded"
