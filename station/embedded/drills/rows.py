"""The database of a drill, which may go away for a while."""

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from station.embedded.drills.history import Happening, RunRecord

T = TypeVar("T")
_WITHOUT_DATABASE = 60.0


def steady(work: Callable[[], T], *, patience: float = _WITHOUT_DATABASE) -> T:
    """``work()``, repeated while there is no database; only for work that may be repeated."""
    from django.db import InterfaceError, OperationalError, connection  # noqa: PLC0415

    deadline = time.monotonic() + patience
    while True:
        try:
            return work()
        except (OperationalError, InterfaceError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        finally:
            connection.close()


def read_records(only: Iterable[int] | None = None) -> list[RunRecord]:
    """Every run with its journal, or those with the ids; what goes on meanwhile may be torn."""
    from runs.models import Run, RunEvent  # noqa: PLC0415

    runs, events = Run.objects.order_by("pk"), RunEvent.objects.order_by("run_id", "seq")
    if only is not None:
        chosen = list(only)
        runs, events = runs.filter(pk__in=chosen), events.filter(run_id__in=chosen)
    rows = steady(lambda: list(runs))
    journals: dict[int, list[Happening]] = {row.pk: [] for row in rows}
    for event in steady(lambda: list(events)):
        if event.run_id in journals:
            journals[event.run_id].append(
                Happening(seq=event.seq, kind=event.kind, at=event.at, payload=event.payload)
            )
    return [
        RunRecord(
            run_id=row.pk,
            status=row.status,
            fence=row.fence,
            last_seq=row.last_seq,
            steps=row.steps,
            journal=journals[row.pk],
            error=row.error_message,
        )
        for row in rows
    ]
