"""Claiming and loading a run is one unit of work that may be repeated."""

import pytest
from django.db import OperationalError

from runs import assignment
from runs.assignment import Taking
from runs.models import Run
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
