"""What a person says about calls in doubt: nobody else knows whether they happened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from django.db import transaction

from runs import bus, journal, services, transitions
from runs.bell import ring_after_commit
from runs.entries import Event, Kind
from runs.errors import NothingToDecide
from runs.models import Run
from runs.states import Status
from station.core.errors import Conflict, InvalidInput
from station.core.principal import Principal, Role

_LONGEST_TEXT = 256 * 1024


class Verdict(StrEnum):
    """What became of a call in doubt."""

    HAPPENED = "happened"
    """It took effect: go on with the given result."""
    REPEAT = "repeat"
    """It did not take effect: make it again."""
    STOP = "stop"
    """Neither: end the run as failed."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A verdict on one call. ``result`` is what the model is to read of a call that happened."""

    call_id: str
    verdict: Verdict
    result: str = ""


def open_calls(run: Run) -> list[Mapping[str, Any]]:
    """The calls a waiting run wants decided: ``call_id``, ``tool``, ``arguments``, ``step``."""
    return _question(run)[1]


def decide(principal: Principal, run: Run, decisions: Sequence[Decision], *, why: str = "") -> Run:
    """Settle every call in doubt of a waiting run; it goes on, or ends where one says stop.

    Who decided and ``why`` are journaled. For operators of the run's environment.

    Raises:
        NothingToDecide: the run does not wait for a decision.
        InvalidInput: a call is unknown, decided twice, or left undecided.
        Conflict: somebody else decided meanwhile.
    """
    principal.require(Role.OPERATOR, run.environment_id)
    seen, calls = _question(run)
    _check(decisions, [str(call["call_id"]) for call in calls], why)
    payloads = [
        {
            "call_id": decision.call_id,
            "decision": decision.verdict.value,
            "result": journal.storable(decision.result),
            "by": principal.label,
            "why": journal.storable(why),
        }
        for decision in decisions
    ]
    if any(decision.verdict is Verdict.STOP for decision in decisions):
        message = f"{principal.label} stopped the run while a call was in doubt. {why}".strip()
        moved = transitions.stop_waiting(run.pk, seen, payloads, journal.storable(message))
    else:
        moved = transitions.resume(run.pk, seen, payloads)
        ring_after_commit()
    if moved is None:
        raise Conflict(f"Run {run.pk} was decided by somebody else.", fix="Look at it again.")
    transaction.on_commit(partial(bus.announce, {run.pk: moved.event}), robust=True)
    return services.get(principal, run.pk)


def _question(run: Run) -> tuple[int, list[Mapping[str, Any]]]:
    """The number of the event that asks, and the calls it asks about."""
    last: Event | None = None
    if run.state is Status.WAITING:
        last = next(iter(journal.read(run.pk, after=run.last_seq - 1)), None)
    if last is None or last.kind is not Kind.WAITING or last.payload.get("reason") != "doubt":
        raise NothingToDecide(f"Run {run.pk} is {run.status} and waits for no decision.")
    return last.seq, list(last.payload["calls"])


def _check(decisions: Sequence[Decision], wanted: Sequence[str], why: str) -> None:
    known = f"The calls in doubt are: {', '.join(wanted)}."
    given = [decision.call_id for decision in decisions]
    for index, decision in enumerate(decisions):
        where = f"decisions[{index}]"
        if decision.call_id not in wanted:
            raise InvalidInput(f"{where}.call_id", f"{decision.call_id!r} is not one", fix=known)
        if given.count(decision.call_id) > 1:
            raise InvalidInput(f"{where}.call_id", f"{decision.call_id!r} is decided twice")
        if len(decision.result) > _LONGEST_TEXT:
            raise InvalidInput(f"{where}.result", f"is longer than {_LONGEST_TEXT} characters")
        if decision.result and decision.verdict is not Verdict.HAPPENED:
            raise InvalidInput(f"{where}.result", "goes with 'happened' only")
    if missing := [call for call in wanted if call not in given]:
        raise InvalidInput("decisions", f"call {missing[0]!r} is undecided", fix=known)
    if len(why) > 2000:
        raise InvalidInput("why", "is longer than 2000 characters")
