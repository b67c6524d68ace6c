"""Runs with a concurrency key queue in a lane of their own; claims look at the first of it only.

A lane is an agent and a value of its key. As many of its runs as its cap admits are running or in
front; the others are marked ``behind``, and no claim meets them, however many they are. When one
goes, the next comes to the front.

The mark decides nothing about caps: a claim counts again, under a lock. A submission that comes
while the last run of its lane goes may be left behind by mistake; the keeper calls it forward.
"""

from collections.abc import Iterable

from django.db import connection

_IN_FRONT = """
  (SELECT count(*) FROM agent_runs f WHERE f.agent_id = {agent} AND f.concurrency_key = {key}
      AND f.concurrency_key <> '' AND f.status = 'queued' AND NOT f.behind
      AND f.available_at <= clock_timestamp())
  + (SELECT count(*) FROM agent_runs f WHERE f.agent_id = {agent} AND f.concurrency_key = {key}
        AND f.status = 'running')
"""
_OF_LANE = _IN_FRONT.format(agent="lane.agent_id", key="lane.key")
# Whoever is more urgent than one in front comes to the front as well.
_IS_BEHIND = f"""
  SELECT {_OF_LANE} >= a.max_running_per_key AND coalesce((
           SELECT min(f.priority) FROM agent_runs f WHERE f.agent_id = lane.agent_id
              AND f.concurrency_key = lane.key AND f.concurrency_key <> ''
              AND f.status = 'queued' AND NOT f.behind) >= %s, true)
    FROM (VALUES (%s::bigint, %s::text)) AS lane(agent_id, key)
    JOIN agents a ON a.id = lane.agent_id
"""  # noqa: S608 - constants
_ADVANCE = f"""
  UPDATE agent_runs SET behind = false WHERE id = ANY (ARRAY(
    SELECT next.id FROM lane JOIN agents a ON a.id = lane.agent_id
     CROSS JOIN LATERAL (SELECT a.max_running_per_key - ({_OF_LANE}) AS free) AS room
     CROSS JOIN LATERAL (
       SELECT b.id FROM agent_runs b WHERE b.agent_id = lane.agent_id
          AND b.concurrency_key = lane.key AND b.status = 'queued' AND b.behind
        ORDER BY b.priority DESC, b.id LIMIT greatest(room.free, 0)
          FOR NO KEY UPDATE SKIP LOCKED) AS next
  )) AND status = 'queued'
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
    """Whether a new run of that key has others before it."""
    if not key:
        return False
    with connection.cursor() as cursor:
        cursor.execute(_IS_BEHIND, [priority, agent_id, key])
        row = cursor.fetchone()
    return row is not None and bool(row[0])


def advance(lanes: Iterable[tuple[int, str]]) -> None:
    """Call the next runs of these lanes (agent id, key) to the front, where there is room."""
    wanted = sorted({lane for lane in lanes if lane[1]})
    if not wanted:
        return
    with connection.cursor() as cursor:
        cursor.execute(_THESE, [[agent for agent, _ in wanted], [key for _, key in wanted]])


def advance_all() -> int:
    """Call the next runs of all lanes to the front, where there is room; how many."""
    with connection.cursor() as cursor:
        cursor.execute(_ALL)
        return int(cursor.rowcount)
