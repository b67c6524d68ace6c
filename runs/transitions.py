"""The one writer of a run's status: compare-and-swap and journal entry in one statement.

Every function here changes and journals in one atomic statement, and then advances the lanes; each
returns what changed or ``None`` when the run was not (or no longer) in the state it needs. The
database clock decides about leases.

What an owner does takes the id of its last entry, ``event_id``. Calling it again with that id after
an answer was lost changes nothing twice, and returns the change if it was committed.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from runs import lanes
from runs.entries import Entry, Kind, Spent
from runs.journal import dump
from runs.moves import Moved, execute, move, movements, stored
from runs.states import Status
from station.core.ids import uuid7

_RAN = (
    "running_ms = r.running_ms + extract(epoch FROM "
    "least(clock_timestamp(), r.lease_expires_at) - r.claimed_at) * 1000"
)
_RAN_LESS = (
    "running_ms = r.running_ms + greatest(0, extract(epoch FROM "
    "clock_timestamp() - r.claimed_at) - %(uncounted)s) * 1000"
)
_LIVE = "r.fence = %(fence)s AND r.lease_expires_at > clock_timestamp()"
_IDLE = "worker = '', lease_expires_at = NULL"


def claim(
    worker: str, lease: float, recent: Sequence[int], event_id: UUID
) -> tuple[int | None, Moved | None]:
    """queued -> running, for the run that ``station_pick_run`` picks and locks.

    Before calling it again after an answer was lost, ask :func:`runs.moves.stored`.

    Returns:
        What was picked (``None``: nothing to pick; -1: somebody else is deciding about a cap) and,
        unless the pick was too new for this statement to see, the change.
    """
    entry = Entry(id=event_id, kind=Kind.CLAIMED, payload={"worker": worker})
    rows = execute(
        Status.QUEUED,
        Status.RUNNING,
        [entry],
        picking="SELECT station_pick_run(%(recent)s::bigint[]) AS id",
        where="r.id = (SELECT id FROM picked)",
        sets=(
            "worker = %(worker)s, fence = r.fence + 1, claimed_at = clock_timestamp(), "
            "started_at = coalesce(r.started_at, clock_timestamp()), wait_reason = '', "
            "lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s)"
        ),
        parameters={"recent": list(recent), "worker": worker, "lease": lease},
    )
    moved = movements([row[1:] for row in rows if row[1] is not None], entry)
    return rows[0][0], moved[0] if moved else None


def _let_go(
    run_id: int,
    fence: int,
    target: Status,
    entries: Sequence[Entry],
    *,
    sets: str,
    guard: str = "r.cancel_requested_at IS NULL",
    ran: str = _RAN,
    **parameters: Any,
) -> Moved | None:
    """running -> ``target``, by the owner with that fence while its lease lasts."""
    moved = move(
        Status.RUNNING,
        target,
        entries,
        where=f"r.id = %(run)s AND {_LIVE} AND {guard}",
        sets=f"{_IDLE}, {ran}, {sets}",
        parameters={"run": run_id, "fence": fence, **parameters},
    )
    if not moved and (committed := stored(entries[-1].id)) is not None:
        lanes.advance_of(run_id)  # whoever committed may not have come to this
        return committed
    return moved[0] if moved else None


def finish(
    run_id: int,
    fence: int,
    target: Status,
    *,
    event_id: UUID | None = None,
    before: Sequence[Entry] = (),
    spent: Spent | None = None,
    output: str = "",
    output_data: Any = None,
    error: tuple[str, str, str] = ("", "", ""),
) -> Moved | None:
    """running -> a terminal status, by the owner, together with its last entries and spending.

    ``error`` is (code, message, reference). ``None`` when the lease is lost, or when a
    cancellation was asked for and ``target`` is another ending, or the other way round.
    """
    code, message, reference = error
    spent = spent or Spent()
    last = Entry(
        id=event_id or uuid7(),
        kind=Kind.FINISHED,
        payload={
            "status": target.value,
            **(
                {"error": {"code": code, "message": message, "reference": reference}}
                if code
                else {}
            ),
        },
    )
    asked_for = "IS NOT NULL" if target is Status.CANCELLED else "IS NULL"
    return _let_go(
        run_id,
        fence,
        target,
        [*before, last],
        guard=f"r.cancel_requested_at {asked_for}",
        sets=f"finished_at = clock_timestamp(), {_OUTCOME}",
        output=output,
        output_data=None if output_data is None else dump(output_data),
        code=code,
        message=message,
        reference=reference,
        steps=spent.steps,
        input=spent.input_tokens,
        output_tokens=spent.output_tokens,
        cost=spent.cost_usd,
    )


_ENDED = f"finished_at = clock_timestamp(), {_IDLE}"
_OUTCOME = (
    "output = %(output)s, output_data = %(output_data)s::jsonb, error_code = %(code)s, "
    "error_message = %(message)s, error_reference = %(reference)s, "
    "steps = r.steps + %(steps)s, input_tokens = r.input_tokens + %(input)s, "
    "output_tokens = r.output_tokens + %(output_tokens)s, cost_usd = r.cost_usd + %(cost)s"
)


def wait(
    run_id: int,
    fence: int,
    *,
    event_id: UUID | None = None,
    reason: str,
    details: Mapping[str, Any],
    expires: float,
) -> Moved | None:
    """running -> waiting, by the owner, for at most ``expires`` seconds."""
    return _let_go(
        run_id,
        fence,
        Status.WAITING,
        [Entry(id=event_id or uuid7(), kind=Kind.WAITING, payload={"reason": reason, **details})],
        sets=(
            "wait_reason = %(reason)s, "
            "wait_expires_at = clock_timestamp() + make_interval(secs => %(expires)s)"
        ),
        reason=reason,
        expires=expires,
    )


def hand_back(
    run_id: int,
    fence: int,
    *,
    event_id: UUID | None = None,
    reason: str,
    delay: float = 0.0,
    uncounted: float = 0.0,
    details: Mapping[str, Any] | None = None,
) -> Moved | None:
    """running -> queued, by the owner that cannot go on; the run keeps its place by age.

    ``delay`` seconds it is held back; ``uncounted`` seconds of its last stretch are no running
    time.
    """
    return _let_go(
        run_id,
        fence,
        Status.QUEUED,
        [
            Entry(
                id=event_id or uuid7(),
                kind=Kind.RELEASED,
                payload={"reason": reason, **(details or {})},
            )
        ],
        ran=_RAN_LESS,
        sets="available_at = clock_timestamp() + make_interval(secs => %(delay)s)",
        delay=delay,
        uncounted=uncounted,
    )


def retry_later(
    run_id: int,
    fence: int,
    *,
    event_id: UUID | None = None,
    error: tuple[str, str],
    retry: int,
    at_most: int,
    delay: float,
) -> Moved | None:
    """running -> queued for ``delay`` seconds, by the owner, after a failure that may pass.

    ``error`` is (code, message), ``retry`` the number of this retry. ``None`` also when the run
    was retried ``at_most`` times already.
    """
    code, message = error
    payload = {
        "reason": "retry",
        "error": {"code": code, "message": message},
        "retry": retry,
        "at_most": at_most,
        "delay": delay,
    }
    return _let_go(
        run_id,
        fence,
        Status.QUEUED,
        [Entry(id=event_id or uuid7(), kind=Kind.RELEASED, payload=payload)],
        guard="r.cancel_requested_at IS NULL AND r.retries < %(most)s",
        sets=(
            "retries = r.retries + 1, "
            "available_at = clock_timestamp() + make_interval(secs => %(delay)s)"
        ),
        most=at_most,
        delay=delay,
    )


_EXPIRED = (
    "r.id = ANY (ARRAY(SELECT id FROM agent_runs WHERE status = 'running' "
    "AND lease_expires_at < clock_timestamp() ORDER BY lease_expires_at LIMIT 100 "
    "FOR NO KEY UPDATE SKIP LOCKED)) AND r.lease_expires_at < clock_timestamp() AND "
)


def release_expired(max_attempts: int) -> list[Moved]:
    """running -> queued for runs whose owner fell silent; at most 100 a call."""
    return move(
        Status.RUNNING,
        Status.QUEUED,
        [Entry(kind=Kind.RELEASED, payload={"reason": "lease_expired"})],
        where=f"{_EXPIRED} r.cancel_requested_at IS NULL AND r.crashes + 1 < %(most)s",
        sets=f"{_IDLE}, {_RAN}, crashes = r.crashes + 1",
        parameters={"most": max_attempts},
    )


def fail_expired(max_attempts: int, message: str) -> list[Moved]:
    """running -> failed for runs whose workers died ``max_attempts`` times without a step."""
    error = {"code": "worker_crashed", "message": message, "reference": ""}
    return move(
        Status.RUNNING,
        Status.FAILED,
        [Entry(kind=Kind.FINISHED, payload={"status": "failed", "error": error})],
        where=f"{_EXPIRED} r.cancel_requested_at IS NULL AND r.crashes + 1 >= %(most)s",
        sets=(
            f"{_ENDED}, {_RAN}, crashes = r.crashes + 1, error_code = 'worker_crashed', "
            "error_message = %(message)s"
        ),
        parameters={"most": max_attempts, "message": message},
    )


def cancel_expired() -> list[Moved]:
    """running -> cancelled for runs whose owner fell silent before it saw the cancellation."""
    return move(
        Status.RUNNING,
        Status.CANCELLED,
        [Entry(kind=Kind.FINISHED, payload={"status": "cancelled"})],
        where=f"{_EXPIRED} r.cancel_requested_at IS NOT NULL",
        sets=f"{_ENDED}, {_RAN}",
        parameters={},
    )


# Locked in one order, so that two people who cancel the same runs cannot block each other.
_THESE = (
    "r.id = ANY (ARRAY(SELECT id FROM agent_runs WHERE id = ANY (%(runs)s) ORDER BY id "
    "FOR NO KEY UPDATE))"
)


def cancel_idle(run_ids: Sequence[int], by: str) -> list[Moved]:
    """queued or waiting -> cancelled, by a person."""
    moved: list[Moved] = []
    for source in (Status.QUEUED, Status.WAITING):
        moved += move(
            source,
            Status.CANCELLED,
            [Entry(kind=Kind.FINISHED, payload={"status": "cancelled", "by": by})],
            where=_THESE,
            sets="finished_at = clock_timestamp(), cancel_requested_at = clock_timestamp()",
            parameters={"runs": list(run_ids)},
        )
    return moved


def request_cancel(run_ids: Sequence[int], by: str) -> list[Moved]:
    """Flag running runs for cancellation; their owners end them. Not a change of status."""
    return move(
        Status.RUNNING,
        None,
        [Entry(kind=Kind.CANCEL_REQUESTED, payload={"by": by})],
        where=f"{_THESE} AND r.cancel_requested_at IS NULL",
        sets="cancel_requested_at = clock_timestamp()",
        parameters={"runs": list(run_ids)},
    )


def resume(run_id: int, seen: int, decisions: Sequence[Mapping[str, Any]]) -> Moved | None:
    """waiting -> queued after a person decided; the run keeps its place by age.

    ``seen`` is the number of the last event the person knew: whoever decides about an older state
    of affairs gets ``None``.
    """
    moved = move(
        Status.WAITING,
        Status.QUEUED,
        [Entry(kind=Kind.DECIDED, payload=decision) for decision in decisions],
        where="r.id = %(run)s AND r.last_seq = %(seen)s",
        sets="wait_reason = '', wait_expires_at = NULL, available_at = clock_timestamp()",
        parameters={"run": run_id, "seen": seen},
    )
    return moved[0] if moved else None


def stop_waiting(
    run_id: int, seen: int, decisions: Sequence[Mapping[str, Any]], message: str
) -> Moved | None:
    """waiting -> failed because a person decided so; see :func:`resume` for ``seen``."""
    error = {"code": "stopped_in_doubt", "message": message, "reference": ""}
    finished = Entry(kind=Kind.FINISHED, payload={"status": "failed", "error": error})
    moved = move(
        Status.WAITING,
        Status.FAILED,
        [*(Entry(kind=Kind.DECIDED, payload=decision) for decision in decisions), finished],
        where="r.id = %(run)s AND r.last_seq = %(seen)s",
        sets=(
            "finished_at = clock_timestamp(), error_code = 'stopped_in_doubt', "
            "error_message = %(message)s"
        ),
        parameters={"run": run_id, "seen": seen, "message": message},
    )
    return moved[0] if moved else None


def expire_idle() -> list[Moved]:
    """queued or waiting -> timed_out where the queue deadline or the wait has passed.

    A deadline for starting means nothing to a run that did start and was handed back.
    """
    return [
        *_expire(
            Status.QUEUED,
            "queue_deadline",
            unless="started_at IS NOT NULL",
            code="queue_deadline",
            message="No worker came in time.",
        ),
        *_expire(
            Status.WAITING,
            "wait_expires_at",
            unless="false",
            code="wait_expired",
            message="Nobody decided in time.",
        ),
    ]


def _expire(source: Status, column: str, *, unless: str, code: str, message: str) -> list[Moved]:
    error = {"code": code, "message": message, "reference": ""}
    return move(
        source,
        Status.TIMED_OUT,
        [Entry(kind=Kind.FINISHED, payload={"status": "timed_out", "error": error})],
        where=(
            f"r.id = ANY (ARRAY(SELECT id FROM agent_runs WHERE status = '{source}' "  # noqa: S608
            f"AND {column} < clock_timestamp() AND NOT ({unless}) ORDER BY {column} LIMIT 100 "
            "FOR NO KEY UPDATE SKIP LOCKED))"
        ),
        sets=(
            "finished_at = clock_timestamp(), error_code = %(code)s, error_message = %(message)s"
        ),
        parameters={"code": code, "message": message},
    )
