"""How a run changes: compare-and-swap and journal entry in one statement.

:mod:`runs.transitions` has the changes there are; nobody else writes a run's status.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection

from runs import lanes
from runs.entries import Entry, Event, Kind
from runs.journal import dump
from runs.states import TRANSITIONS, Status

_STORED = """
  SELECT e.run_id, e.seq, e.kind, e.at, e.payload,
         (SELECT count(*) FROM agent_run_events c
           WHERE c.run_id = e.run_id AND c.kind = 'run.claimed' AND c.seq <= e.seq)
    FROM agent_run_events e WHERE e.id = %s
"""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A run that changed its status, and the journal entry that says so."""

    run_id: int
    fence: int
    event: Event


def move(
    source: Status,
    target: Status | None,
    entries: Sequence[Entry],
    *,
    where: str,
    sets: str,
    parameters: Mapping[str, Any],
) -> list[Moved]:
    """Change every run in ``source`` that ``where`` admits, and journal it, in one statement.

    Where runs of a concurrency key have gone, the next of their lanes come to the front.
    """
    rows = execute(source, target, entries, where=where, sets=sets, parameters=parameters)
    if target is not None:
        lanes.advance((agent_id, key) for *_, agent_id, key in rows)
    return movements(rows, entries[-1])


def execute(
    source: Status,
    target: Status | None,
    entries: Sequence[Entry],
    *,
    where: str,
    sets: str,
    parameters: Mapping[str, Any],
    picking: str = "",
) -> list[tuple[Any, ...]]:
    """Change and journal; rows of run, seq, at, fence, agent and key, one for each entry.

    Where ``where`` picks several runs, each gets the entries under ids the database makes.
    ``picking`` is evaluated first; its ``id`` is ``picked`` in ``where`` and the first column of
    the rows, of which there is then always one.

    Raises:
        ValueError: no run may go from ``source`` to ``target``.
    """
    if target is not None and target not in TRANSITIONS[source]:
        raise ValueError(f"no run goes from {source} to {target}")
    many = "ANY (ARRAY" in where
    status = "" if target is None else f"status = '{target}', "
    picked = f"picked AS MATERIALIZED ({picking})," if picking else ""
    first, origin = ("picked.id,", "picked LEFT JOIN event ON true") if picking else ("", "event")
    sql = f"""
        WITH {picked} head AS (
          UPDATE agent_runs r SET {status}{sets}, last_seq = r.last_seq + {len(entries)}
           WHERE r.status = '{source}' AND {where}
          RETURNING r.id, r.fence, r.last_seq, r.agent_id, r.concurrency_key
        ), event AS (
          INSERT INTO agent_run_events (id, run_id, seq, kind, at, payload)
          SELECT {"gen_random_uuid()" if many else "e.id"}, head.id,
                 head.last_seq - {len(entries)} + e.ord, e.kind, clock_timestamp(), e.payload
            FROM head, unnest(%(ids)s::uuid[], %(kinds)s::text[], %(payloads)s::jsonb[])
                 WITH ORDINALITY AS e(id, kind, payload, ord)
          RETURNING run_id, seq, at
        )
        SELECT {first} event.run_id, event.seq, event.at, head.fence, head.agent_id,
               head.concurrency_key
          FROM {origin} LEFT JOIN head ON head.id = event.run_id
    """  # noqa: S608 - every part is a constant of this module
    everything = {
        **parameters,
        "ids": [entry.id for entry in entries],
        "kinds": [entry.kind.value for entry in entries],
        "payloads": [dump(entry.payload) for entry in entries],
    }
    with connection.cursor() as cursor:
        cursor.execute(sql, everything)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def movements(rows: Sequence[tuple[Any, ...]], last: Entry) -> list[Moved]:
    """What :func:`execute` changed, by run; ``last`` is the entry behind which nothing follows."""
    final = {run_id: (seq, at, fence) for run_id, seq, at, fence, *_ in sorted(rows)}
    return [
        Moved(
            run_id=run_id,
            fence=fence,
            event=Event(seq=seq, kind=last.kind, at=at, payload=last.payload),
        )
        for run_id, (seq, at, fence) in final.items()
    ]


def stored(event_id: UUID) -> Moved | None:
    """The change whose last entry has this id, if it was committed.

    For a change whose answer was lost with the connection. Every claim has a fence of its own, so
    the claims that are journaled up to the entry are its fence.
    """
    with connection.cursor() as cursor:
        cursor.execute(_STORED, [event_id])
        row = cursor.fetchone()
    if row is None:
        return None
    run_id, seq, kind, at, payload, fence = row
    event = Event(seq=seq, kind=Kind(kind), at=at, payload=json.loads(payload))
    return Moved(run_id=run_id, fence=fence, event=event)
