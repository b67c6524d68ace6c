"""Runs with a concurrency key queue in a lane of their own; claims look at the first of it only.

A lane is an agent and a value of its key. A run that has as many of its lane before it as the cap
admits, running or in front and as urgent, is marked ``behind``, and no claim meets it. When one
goes, the next comes to the front. So for each priority the front of a lane is as long as its cap,
at most.

The mark decides nothing about caps: a claim counts again, under a lock. A submission that comes
while the last run of its lane goes may be left behind by mistake; the keeper calls it forward.
"""

from collections.abc import Iterable

from django.db import connection

_RUNNING = """
  (SELECT count(*) FROM agent_runs o WHERE o.agent_id = lane.agent_id
      AND o.concurrency_key = lane.key AND o.status = 'running')
"""
# Only those that are as urgent go before a run: else one that is less urgent than a crowd would let
# all of the crowd into the front.
_BEFORE = """
  (SELECT count(*) FROM agent_runs f WHERE f.agent_id = lane.agent_id
      AND f.concurrency_key = lane.key AND f.concurrency_key <> '' AND f.status = 'queued'
      AND NOT f.behind AND f.available_at <= clock_timestamp() AND f.priority >= {priority})
"""
_IS_BEHIND = f"""
  SELECT {_RUNNING} + {_BEFORE.format(priority="lane.priority")} >= a.max_running_per_key
    FROM (VALUES (%s::bigint, %s::text, %s::int)) AS lane(agent_id, key, priority)
    JOIN agents a ON a.id = lane.agent_id
"""  # noqa: S608 - constants
# Rows are locked only where they are called forward: keepers look at every lane again and again.
_ADVANCE = f"""
  UPDATE agent_runs SET behind = false WHERE id = ANY (ARRAY(
    SELECT r.id FROM agent_runs r WHERE r.behind AND r.status = 'queued' AND r.id = ANY (ARRAY(
      SELECT next.id FROM lane JOIN agents a ON a.id = lane.agent_id
       CROSS JOIN LATERAL (SELECT a.max_running_per_key - {_RUNNING} AS free) AS room
       CROSS JOIN LATERAL (
         SELECT c.id, c.priority, row_number() OVER (ORDER BY c.priority DESC, c.id) AS place
           FROM (SELECT b.id, b.priority FROM agent_runs b
                  WHERE b.agent_id = lane.agent_id AND b.concurrency_key = lane.key
                    AND b.status = 'queued' AND b.behind
                  ORDER BY b.priority DESC, b.id LIMIT greatest(room.free, 0)) AS c) AS next
       WHERE {_BEFORE.format(priority="next.priority")} + next.place <= room.free
    )) FOR NO KEY UPDATE SKIP LOCKED
  ))
"""  # noqa: S608 - constants
_THESE = f"""
  WITH lane AS (SELECT * FROM unnest(%s::bigint[], %s::text[]) AS l(agent_id, key))
  {_ADVANCE}
"""  # noqa: S608 - constants
# A walk over the index from lane to lane: the work grows with the lanes, not with the runs.
_ALL = f"""
  WITH RECURSIVE walk AS (
    (SELECT b.agent_id, b.concurrency_key AS key FROM agent_runs b
      WHERE b.status = 'queued' AND b.behind ORDER BY b.agent_id, b.concurrency_key LIMIT 1)
    UNION ALL
    SELECT after.agent_id, after.concurrency_key FROM walk CROSS JOIN LATERAL (
      SELECT b.agent_id, b.concurrency_key FROM agent_runs b
       WHERE b.status = 'queued' AND b.behind
         AND (b.agent_id, b.concurrency_key) > (walk.agent_id, walk.key)
       ORDER BY b.agent_id, b.concurrency_key LIMIT 1) AS after
  ), lane AS (SELECT agent_id, key FROM walk)
  {_ADVANCE}
"""  # noqa: S608 - constants


def is_behind(agent_id: int, key: str, priority: int) -> bool:
    """Whether a new run of that key has as many before it as its cap admits."""
    if not key:
        return False
    with connection.cursor() as cursor:
        cursor.execute(_IS_BEHIND, [agent_id, key, priority])
        row = cursor.fetchone()
    return row is not None and bool(row[0])


def advance(lanes: Iterable[tuple[int, str]]) -> None:
    """Call the next runs of these lanes (agent id, key) to the front, where there is room."""
    wanted = sorted({lane for lane in lanes if lane[1]})
    if not wanted:
        return
    with connection.cursor() as cursor:
        cursor.execute(_THESE, [[agent for agent, _ in wanted], [key for _, key in wanted]])


def advance_of(run_id: int) -> None:
    """Call the next of this run's lane to the front, where there is room."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT agent_id, concurrency_key FROM agent_runs WHERE id = %s", [run_id])
        advance(cursor.fetchall())


def advance_all() -> int:
    """Call the next runs of all lanes to the front, where there is room; how many."""
    with connection.cursor() as cursor:
        cursor.execute(_ALL)
        return int(cursor.rowcount)
