"""A run's live events for a synchronous reader: the CLI, an SSH session.

The journal is the record and Valkey only the news of it: a follower subscribes first, then reads
the journal, then takes news, filling every gap from the journal by number. While Valkey is away it
reads the journal once a second; token deltas are missed meanwhile, events never.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis
from django.db import InterfaceError, OperationalError, connection
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from runs import journal
from runs.bus import channel
from runs.entries import Event, Kind
from runs.models import Run
from runs.states import TERMINAL
from station.config import current

_PAGE = 200
_LISTEN = 0.5
_LOOK_LIVE, _LOOK_BLIND = 3.0, 1.0
_RECONNECT = 2.0
_PATIENCE = 30.0


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What the model is saying in a step, in pieces; best effort."""

    step: int
    text: str


def _never() -> bool:
    return False


def follow(
    run_id: int, *, after: int = 0, stopped: Callable[[], bool] = _never
) -> Iterator[Event | Delta]:
    """The events of a run from behind ``after``, in order and complete, up to its end.

    The caller has checked that its principal may see the run. Deltas come between the events, only
    for steps that are not answered yet. Ends after the run's last event, when the run is deleted,
    or within half a second of ``stopped()`` turning true. No database connection is held between
    events; at most a page of the journal is in memory.

    Raises:
        OperationalError: PostgreSQL was away for 30 seconds.
    """
    with contextlib.closing(_News(run_id)) as news:
        yield from _Follower(run_id, after, news).events(stopped)


class _Follower:
    def __init__(self, run_id: int, after: int, news: "_News") -> None:
        self._run_id, self._last, self._news = run_id, after, news
        self._answered = 0
        self._ended = False

    def events(self, stopped: Callable[[], bool]) -> Iterator[Event | Delta]:
        self._news.connect()
        yield from self._missed()
        looked = time.monotonic()
        while not self._ended and not stopped():
            message = self._news.next(_LISTEN)
            if message is not None:
                yield from self._live(message)
                continue
            if time.monotonic() - looked < (_LOOK_LIVE if self._news.live else _LOOK_BLIND):
                continue
            looked = time.monotonic()
            if not self._news.live:
                self._news.connect()  # subscribed before the journal is read, as at the start
            yield from self._missed()

    def _live(self, message: dict[str, Any]) -> Iterator[Event | Delta]:
        if "delta" in message:
            if message["step"] > self._answered:
                yield Delta(step=message["step"], text=message["delta"])
            return
        if message["seq"] == self._last + 1 and "kind" in message:
            yield self._taken(_event(message))
        elif message["seq"] > self._last:
            yield from self._missed()

    def _missed(self) -> Iterator[Event]:
        """Everything journaled behind the last event, in pages."""
        while not self._ended:
            page, over = _patiently(self._page)
            for event in page:
                yield self._taken(event)
            if len(page) < _PAGE:
                self._ended = self._ended or over
                return

    def _taken(self, event: Event) -> Event:
        self._last = event.seq
        if event.kind is Kind.MODEL_ANSWERED:
            self._answered = event.payload["step"]
        self._ended = event.kind is Kind.FINISHED
        return event

    def _page(self) -> tuple[list[Event], bool]:
        """A page of the journal, and whether nothing can follow it."""
        state = Run.objects.filter(pk=self._run_id).values_list("status", "last_seq").first()
        if state is None:
            return [], True
        status, last_seq = state
        over = status in TERMINAL
        if last_seq <= self._last:
            return [], over
        return journal.read(self._run_id, after=self._last, limit=_PAGE), over


class _News:
    """A subscription to a run's channel that may come and go."""

    def __init__(self, run_id: int) -> None:
        self._channel = channel(run_id)
        self._client = redis.Redis.from_url(
            current().redis.url.get_secret_value(),
            socket_connect_timeout=1,
            socket_timeout=2,
            health_check_interval=10,
            retry=Retry(NoBackoff(), 0),  # the client would sleep; the follower reads meanwhile
        )
        self._pubsub: redis.client.PubSub | None = None
        self._next_try = 0.0

    @property
    def live(self) -> bool:
        """Whether news would arrive now."""
        return self._pubsub is not None

    def connect(self) -> None:
        """Subscribe, unless that failed a moment ago."""
        if self.live or time.monotonic() < self._next_try:
            return
        pubsub = self._client.pubsub()  # type: ignore[no-untyped-call]
        try:
            pubsub.subscribe(self._channel)
            if pubsub.get_message(timeout=2) is None:
                raise OSError("the subscription was not confirmed")
        except (RedisError, OSError):
            self._next_try = time.monotonic() + _RECONNECT
            self._drop(pubsub)
            return
        self._pubsub = pubsub

    def next(self, seconds: float) -> dict[str, Any] | None:
        """The next piece of news within ``seconds``."""
        if self._pubsub is None:
            time.sleep(seconds)
            return None
        try:
            message = self._pubsub.get_message(ignore_subscribe_messages=True, timeout=seconds)
        except (RedisError, OSError):
            self._drop(self._pubsub)
            self._pubsub = None
            return None
        if message is None:
            return None
        parsed = json.loads(message["data"])
        return parsed if isinstance(parsed, dict) else None

    def close(self) -> None:
        if self._pubsub is not None:
            self._drop(self._pubsub)
        with contextlib.suppress(RedisError, OSError):
            self._client.close()

    def _drop(self, pubsub: "redis.client.PubSub") -> None:
        with contextlib.suppress(RedisError, OSError):
            pubsub.close()


def release_connection() -> None:
    """Give this thread's database connection back, unless a transaction is open on it."""
    if not connection.in_atomic_block:
        connection.close()


def _event(message: dict[str, Any]) -> Event:
    """An event from its public form, see :func:`runs.bus.event_json`."""
    return Event(
        seq=message["seq"],
        kind=Kind(message["kind"]),
        at=datetime.fromisoformat(message["at"]),
        payload=message["payload"],
    )


def _patiently(read: Callable[[], tuple[list[Event], bool]]) -> tuple[list[Event], bool]:
    """``read()``, tried again while PostgreSQL is away; the connection is given back."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return read()
        except (OperationalError, InterfaceError):
            if time.monotonic() > deadline:
                raise
        finally:
            release_connection()
        time.sleep(_LOOK_BLIND)
