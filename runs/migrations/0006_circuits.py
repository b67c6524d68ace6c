import importlib

from django.db import migrations, models

# Agents whose only model provider is out of reach. An agent with fallback models is never here: its
# runs are claimed, and wait only if no provider of theirs can be asked. So is one whose model has a
# prefix that is no provider's.
VIEW = """
CREATE VIEW agents_unreachable AS
SELECT a.id, c.provider
  FROM model_circuits c
  JOIN agent_versions v ON v.fallback_models = '[]'::jsonb
   AND (starts_with(v.model, c.provider || '/')
        OR (c.serves_default AND v.model = '')
        OR (c.serves_unnamed AND v.model <> '' AND position('/' in v.model) = 0))
  JOIN agents a ON a.current_version_id = v.id
 WHERE greatest(c.retry_at, c.probing_until) > clock_timestamp();
"""
# As it was, but runs of such agents are not picked.
PICK = """
CREATE OR REPLACE FUNCTION station_pick_run_in(env bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  full_agents bigint[];
  full_keys text[];
  q record;
  verdict text;
  contended boolean := false;
BEGIN
  full_agents := ARRAY(
    SELECT a.id FROM agents a
     WHERE a.environment_id = env AND (a.paused OR a.max_running <= (
       SELECT count(*) FROM agent_runs r
        WHERE r.environment_id = env AND r.agent_id = a.id AND r.status = 'running')));
  IF EXISTS (SELECT FROM model_circuits) THEN
    full_agents := full_agents || ARRAY(SELECT u.id FROM agents_unreachable u);
  END IF;
  full_keys := ARRAY(
    SELECT r.agent_id || ':' || r.concurrency_key
      FROM agent_runs r JOIN agents a ON a.id = r.agent_id
     WHERE r.environment_id = env AND r.status = 'running' AND r.concurrency_key <> ''
     GROUP BY r.agent_id, r.concurrency_key, a.max_running_per_key
    HAVING count(*) >= a.max_running_per_key);

  -- Nearly always one of the first runs in line can start.
  FOR q IN
    SELECT c.id, c.agent_id, c.concurrency_key
      FROM (SELECT id, agent_id, concurrency_key, available_at, priority FROM agent_runs
             WHERE environment_id = env AND status = 'queued'
             ORDER BY priority DESC, id LIMIT 200) c
     WHERE c.available_at <= clock_timestamp() AND c.agent_id <> ALL (full_agents)
       AND (c.concurrency_key = ''
            OR c.agent_id || ':' || c.concurrency_key <> ALL (full_keys))
     ORDER BY c.priority DESC, c.id
  LOOP
    verdict := station_take_slot(q.id, q.agent_id, q.concurrency_key);
    IF verdict = 'taken' THEN RETURN q.id; END IF;
    contended := contended OR verdict = 'contended';
  END LOOP;

  -- Else the head of the line is full: look at the first runs of every lane (agent and key).
  -- The work is bounded by the number of lanes, not of queued runs.
  FOR q IN
    WITH RECURSIVE lane AS (
      SELECT a.id AS agent_id,
             (SELECT min(r.concurrency_key) FROM agent_runs r
               WHERE r.agent_id = a.id AND r.status = 'queued') AS key
        FROM agents a
       WHERE a.environment_id = env AND a.id <> ALL (full_agents)
      UNION ALL
      SELECT l.agent_id,
             (SELECT min(r.concurrency_key) FROM agent_runs r
               WHERE r.agent_id = l.agent_id AND r.status = 'queued'
                 AND r.concurrency_key > l.key)
        FROM lane l WHERE l.key IS NOT NULL
    )
    SELECT h.id, h.agent_id, h.concurrency_key
      FROM lane l CROSS JOIN LATERAL (
        SELECT r.id, r.agent_id, r.concurrency_key, r.priority FROM agent_runs r
         WHERE r.agent_id = l.agent_id AND r.concurrency_key = l.key AND r.status = 'queued'
           AND r.available_at <= clock_timestamp()
         ORDER BY r.priority DESC, r.id LIMIT 20) h
     WHERE l.key IS NOT NULL
       AND (l.key = '' OR l.agent_id || ':' || l.key <> ALL (full_keys))
     ORDER BY h.priority DESC, h.id
     LIMIT 500
  LOOP
    verdict := station_take_slot(q.id, q.agent_id, q.concurrency_key);
    IF verdict = 'taken' THEN RETURN q.id; END IF;
    contended := contended OR verdict = 'contended';
  END LOOP;
  RETURN CASE WHEN contended THEN -1 END;
END $$;
"""
_earlier = importlib.import_module("runs.migrations.0005_pick_run").FORWARD
_start = _earlier.index("CREATE FUNCTION station_pick_run_in(")
BACKWARD = (
    _earlier[_start : _earlier.index("CREATE FUNCTION station_take_slot(")].replace(
        "CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"
    )
    + "DROP VIEW agents_unreachable;"
)


class Migration(migrations.Migration):
    dependencies = [
        ("runs", "0005_pick_run"),
        ("agents", "0004_caps"),
    ]

    operations = [
        migrations.CreateModel(
            name="Circuit",
            fields=[
                ("provider", models.CharField(max_length=100, primary_key=True, serialize=False)),
                (
                    "serves_unnamed",
                    models.BooleanField(help_text="Models without a prefix are this provider's."),
                ),
                (
                    "serves_default",
                    models.BooleanField(help_text="So is the model of agents that name none."),
                ),
                ("failures", models.PositiveIntegerField(help_text="In a row.")),
                ("failed_at", models.DateTimeField()),
                (
                    "pauses",
                    models.PositiveSmallIntegerField(
                        default=0, help_text="Since it last answered."
                    ),
                ),
                ("retry_at", models.DateTimeField(null=True)),
                ("probing_until", models.DateTimeField(null=True)),
                ("problem", models.TextField()),
            ],
            options={
                "db_table": "model_circuits",
                "ordering": ["provider"],
                "verbose_name": "model circuit",
            },
        ),
        migrations.RunSQL(VIEW + PICK, BACKWARD),
    ]
