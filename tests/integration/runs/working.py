"""A worker's part of a run, played by the test: claim, append, announce, finish."""

import json
from typing import Any

import redis

from runs import bus, journal, queue, transitions
from runs.entries import Entry, Event, Kind, Spent
from runs.states import Status
from station.config import current

LEASE = 60.0


class Played:
    """One claimed run."""

    def __init__(self, *, news: bool = True) -> None:
        """Claim the next run; without ``news`` nothing is ever published."""
        moved = queue.claim("worker", LEASE)
        assert moved is not None
        self.run_id, self.fence, self._news = moved.run_id, moved.fence, news
        self.step = 0
        self._announce(moved.event)

    def say(self, text: str, *, step: int | None = None) -> None:
        """Publish a token delta, of the step to come."""
        with redis.Redis.from_url(current().redis.url.get_secret_value()) as client:
            message = {"delta": text, "step": step or self.step + 1}
            client.publish(bus.channel(self.run_id), json.dumps(message))

    def answer(self, content: str, *, news: bool = True) -> Event:
        self.step += 1
        payload = {
            "step": self.step, "content": content, "tool_calls": [], "model": "scripted/demo",
            "finish_reason": "stop", "input_tokens": 10, "output_tokens": 5, "cached_tokens": 0,
            "cost_usd": None, "duration": 0.2, "attempts": 1,
        }  # fmt: skip
        spent = Spent(steps=1, input_tokens=10, output_tokens=5)
        return self.append(Kind.MODEL_ANSWERED, payload, spent=spent, news=news)

    def append(
        self, kind: Kind, payload: dict[str, Any], *, spent: Spent | None = None, news: bool = True
    ) -> Event:
        entry = Entry(kind=kind, payload=payload)
        (event,) = journal.append(self.run_id, self.fence, [entry], spent)
        if news:
            self._announce(event)
        return event

    def finish(
        self, status: Status = Status.SUCCEEDED, *, output: str = "", error: str = ""
    ) -> None:
        if status is Status.CANCELLED:
            transitions.request_cancel([self.run_id], "tests")
        moved = transitions.finish(
            self.run_id, self.fence, status, output=output,
            error=("broken", error, "") if error else ("", "", ""),
        )  # fmt: skip
        assert moved is not None
        self._announce(moved.event)

    def _announce(self, event: Event) -> None:
        if self._news:
            bus.announce({self.run_id: event})
