"""Claiming and loading a run is one unit of work that may be repeated."""

from typing import Any

import pytest
from django.db import OperationalError

from runs import assignment, journal, queue, transitions
from runs.assignment import Taking
from runs.entries import Entry, Kind
from runs.models import Run
from runs.moves import Moved
from runs.replay import Story
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_load_that_failed_is_repeated_for_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = factories.run(), factories.run()
    load, failures = assignment._load, [OperationalError("gone")]

    def flaky(*claimed: object) -> assignment.Assignment:
        if failures:
            raise failures.pop()
        return load(*claimed)  # type: ignore[arg-type]

    monkeypatch.setattr(assignment, "_load", flaky)
    taking = Taking("w", ())
    with pytest.raises(OperationalError):
        taking()
    taken = taking()
    assert taken is not None
    assert taken.run_id == first.pk
    assert Run.objects.get(pk=second.pk).status == "queued"


def test_there_is_nothing_to_take_from_an_empty_queue() -> None:
    assert Taking("w", ())() is None


def test_a_claim_whose_answer_was_lost_is_loaded_and_no_other_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = factories.run(), factories.run()
    claim, failures = queue.claim, [OperationalError("the connection was lost")]

    def cut_off(*arguments: Any, **options: Any) -> Moved | None:
        moved = claim(*arguments, **options)
        if failures:
            raise failures.pop()
        return moved

    monkeypatch.setattr(queue, "claim", cut_off)
    taking = Taking("w", ())
    with pytest.raises(OperationalError):
        taking()
    taken = taking()
    assert taken is not None
    assert (taken.run_id, taken.fence, taken.first) == (first.pk, 1, True)
    assert Run.objects.get(pk=second.pk).status == "queued"


def test_a_claim_that_did_not_come_about_is_made_when_it_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = factories.run()
    claim, failures = queue.claim, [OperationalError("there is no connection")]

    def cut_off(*arguments: Any, **options: Any) -> Moved | None:
        if failures:
            raise failures.pop()
        return claim(*arguments, **options)

    monkeypatch.setattr(queue, "claim", cut_off)
    taking = Taking("w", ())
    with pytest.raises(OperationalError):
        taking()
    taken = taking()
    assert taken is not None
    assert taken.run_id == run.pk


def test_entries_of_a_later_release_are_passed_over() -> None:
    run = factories.run()
    moved = queue.claim("newer", 60.0)
    assert moved is not None
    novelty = Entry(kind=Kind("tool.approved"), payload={"by": "alice"})
    journal.append(moved.run_id, moved.fence, [novelty])
    assert transitions.hand_back(moved.run_id, moved.fence, reason="drained")
    taken = Taking("older", ())()
    assert taken is not None
    assert taken.run_id == run.pk
    assert Story(taken.brief, taken.history).steps == 0
