"""The person of a drill: sees what the tools did, and decides about calls in doubt."""

from collections.abc import Callable, Mapping, Set
from typing import Any

from station.core.errors import Conflict
from station.core.principal import Principal
from station.embedded.drills.rows import steady

_SEEN = "appended, as the sink shows"


def decide_about(
    principal: Principal,
    run: Any,
    happened: Set[str],
    *,
    decide: Callable[..., object] | None = None,
) -> int:
    """Decide about every call that the waiting ``run`` asks about; how many there were.

    Args:
        principal: who decides.
        run: its row.
        happened: the keys of the calls that had their effect.
        decide: :func:`runs.decisions.decide`, unless a test has another.

    Raises:
        Conflict: it was decided by somebody else, or asks about nothing. That this very decision
            was stored and the answer lost, with the database, is none.
    """
    from runs import decisions  # noqa: PLC0415 - Django is set up by the stack

    sent: list[int] = []
    lost: list[int] = []

    def verdict(call: Mapping[str, Any]) -> decisions.Decision:
        if f"{run.pk}:{call['step']}:{call['index']}" in happened:
            kind, result = decisions.Verdict.HAPPENED, _SEEN
        else:
            kind, result = decisions.Verdict.REPEAT, ""
        return decisions.Decision(call_id=call["call_id"], verdict=kind, result=result)

    def once() -> int:
        lost[:] = sent
        chosen = [verdict(call) for call in decisions.open_calls(run)]
        sent[:] = [len(chosen)]
        (decide or decisions.decide)(principal, run, chosen, why="The sink was looked at.")
        return len(chosen)

    try:
        return steady(once)
    except Conflict:
        if not lost:
            raise
        return lost[0]
