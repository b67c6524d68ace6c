"""A queue full of runs, stored at once."""

from collections.abc import Sequence

from django.db import connection

from agents.models import Agent
from runs import lanes

_FILL = """
INSERT INTO agent_runs (environment_id, agent_id, version_id, status, input, data, priority,
  concurrency_key, behind, timeout, submitted_by, submitter_kind, submitter_id, request_id, worker,
  fence, crashes, running_ms, last_seq, steps, input_tokens, output_tokens, cost_usd, output,
  error_code, error_message, error_reference, wait_reason)
SELECT a.environment_id, a.id, a.current_version_id, 'queued', 'task ' || n, '{}',
  %(lowest)s + n %% %(priorities)s,
  CASE WHEN %(keys)s = 0 THEN '' ELSE 'key ' || n %% greatest(%(keys)s, 1) END,
  %(keys)s > 0, 300, 'bench', 'system', 'bench', '', '', 0, 0, 0, 1, 0, 0, 0, 0, '', '', '', '', ''
  FROM generate_series(1, %(count)s) AS n
  JOIN agents a ON a.id = (%(agents)s::bigint[])[1 + n %% %(width)s]
"""


def fill(
    agents: Sequence[Agent], count: int, *, keys: int = 0, lowest: int = 0, priorities: int = 1
) -> None:
    """Queue ``count`` runs of the agents in turn, of ``keys`` keys and some priorities."""
    with connection.cursor() as cursor:
        cursor.execute(
            _FILL,
            {
                "agents": [agent.pk for agent in agents],
                "width": len(agents),
                "count": count,
                "keys": keys,
                "lowest": lowest,
                "priorities": priorities,
            },
        )
        lanes.advance_all()
        cursor.execute("VACUUM ANALYZE agent_runs")
