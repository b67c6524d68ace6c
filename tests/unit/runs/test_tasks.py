"""A full worker hears bells again as soon as a slot is free."""

from typing import Any

import pytest
from celery.worker import state

from runs import tasks


class TurningHub:
    """Celery's loop as far as it is used here: what is asked for is kept, nothing sleeps."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def call_soon(self, *call: Any) -> None:
        self.asked.append(call)

    def call_later(self, seconds: float, *call: Any) -> None:
        assert 0 < seconds < 0.1
        self.asked.append(call)

    def turn(self) -> None:
        function, *arguments = self.asked.pop()
        function(*arguments)


def test_the_loop_turns_until_celery_has_let_go_of_the_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = TurningHub()
    monkeypatch.setattr(tasks, "get_event_loop", lambda: hub)
    full = set(range(tasks.serve.app.conf.worker_concurrency))
    monkeypatch.setattr(state, "reserved_requests", full)
    monkeypatch.setattr(state, "requests", {"one": object()})
    tasks.serve.apply(task_id="one")
    hub.turn()
    hub.turn()
    assert len(hub.asked) == 1, "the task is still held: it turns again"
    state.requests.clear()
    hub.turn()
    assert hub.asked == []


def test_a_worker_with_free_slots_is_listening_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = TurningHub()
    monkeypatch.setattr(tasks, "get_event_loop", lambda: hub)
    monkeypatch.setattr(state, "reserved_requests", {"one"})
    tasks.serve.apply(task_id="one")
    assert hub.asked == []
