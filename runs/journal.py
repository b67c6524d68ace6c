"""The journal: what happened in a run, appended under the fence of its owner.

One statement appends: it raises ``last_seq`` of the run's row (which takes the row's lock and
checks fence, status and lease) and inserts the events with the numbers it won. Whoever slept past
the lease updates no row, inserts nothing and gets :class:`LeaseLost`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connection

from runs.entries import PROGRESS, Entry, Event, Kind, Spent
from runs.errors import LeaseLost
from runs.models import RunEvent

_SURROGATE = re.compile("[\ud800-\udfff]")

_APPEND = """
WITH head AS (
  UPDATE agent_runs SET last_seq = last_seq + %(n)s, steps = steps + %(steps)s,
         input_tokens = input_tokens + %(input)s, output_tokens = output_tokens + %(output)s,
         cost_usd = cost_usd + %(cost)s,
         crashes = CASE WHEN %(progress)s THEN 0 ELSE crashes END
   WHERE id = %(run)s AND fence = %(fence)s AND status = 'running'
     AND lease_expires_at > clock_timestamp()
  RETURNING last_seq
)
INSERT INTO agent_run_events (id, run_id, seq, kind, at, payload)
SELECT e.id, %(run)s, head.last_seq - %(n)s + e.ord, e.kind, clock_timestamp(), e.payload
  FROM head, unnest(%(ids)s::uuid[], %(kinds)s::text[], %(payloads)s::jsonb[])
       WITH ORDINALITY AS e(id, kind, payload, ord)
RETURNING seq, at
"""


def append(
    run_id: int, fence: int, entries: Sequence[Entry], spent: Spent | None = None
) -> list[Event]:
    """Append ``entries`` in order and add ``spent`` to the run's totals, all or nothing.

    An entry of :data:`runs.entries.PROGRESS` forgives the run's earlier crashes; announcing a
    call does not, or a call that kills its worker would be repeated for ever.

    Calling it again with the same entries after an ambiguous failure is safe: entries that are
    stored already are returned as they stand and nothing is added.

    Raises:
        LeaseLost: the run is not running under this fence with a live lease.
    """
    spent = spent or Spent()
    parameters: dict[str, Any] = {
        "run": run_id,
        "fence": fence,
        "n": len(entries),
        "ids": [entry.id for entry in entries],
        "kinds": [entry.kind.value for entry in entries],
        "payloads": [dump(entry.payload) for entry in entries],
        "progress": any(entry.kind in PROGRESS for entry in entries),
        "steps": spent.steps,
        "input": spent.input_tokens,
        "output": spent.output_tokens,
        "cost": spent.cost_usd,
    }
    try:
        with connection.cursor() as cursor:
            cursor.execute(_APPEND, parameters)
            rows = cursor.fetchall()
    except IntegrityError:
        return stored(run_id, entries)
    if not rows:
        raise LeaseLost
    return [
        Event(seq=seq, kind=entry.kind, at=at, payload=entry.payload)
        for entry, (seq, at) in zip(entries, sorted(rows), strict=True)
    ]


def stored(run_id: int, entries: Sequence[Entry]) -> list[Event]:
    """The stored events of ``entries``, after a commit whose answer was lost.

    Raises:
        LeaseLost: they are not all there.
    """
    found = read(run_id, ids=[entry.id for entry in entries])
    if len(found) != len(entries):
        raise LeaseLost
    return found


def read(
    run_id: int,
    *,
    after: int = 0,
    ids: Sequence[UUID] | None = None,
    limit: int | None = None,
) -> list[Event]:
    """The journal of a run in order, from behind ``after`` or only the entries of ``ids``."""
    rows = RunEvent.objects.filter(run_id=run_id, seq__gt=after).order_by("seq")
    if ids is not None:
        rows = rows.filter(id__in=ids)
    return [
        Event(seq=seq, kind=Kind(kind), at=at, payload=payload)
        for seq, kind, at, payload in rows.values_list("seq", "kind", "at", "payload")[:limit]
    ]


def dump(payload: Mapping[str, Any]) -> str:
    """The payload as JSON that PostgreSQL stores.

    What ``jsonb`` refuses (NUL characters and lone surrogates, which models and tools do send)
    becomes U+FFFD.
    """
    text = json.dumps(payload, ensure_ascii=False, default=str)
    if "\\u0000" in text or _SURROGATE.search(text):
        text = json.dumps(_storable(payload), ensure_ascii=False, default=str)
    return text


def storable(text: str) -> str:
    """``text`` without the characters PostgreSQL refuses."""
    return _SURROGATE.sub("\ufffd", text.replace("\0", "\ufffd"))


def _storable(value: Any) -> Any:
    match value:
        case str():
            return storable(value)
        case Mapping():
            return {storable(str(key)): _storable(item) for key, item in value.items()}
        case list() | tuple():
            return [_storable(item) for item in value]
        case _:
            return value
