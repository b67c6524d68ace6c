from django.db import migrations

# Which queued run is next. Called inside the transaction that claims it; what it returns is locked.
#
# Environments take turns: the one with the fewest running runs first, then the one this process
# claimed for the longest time ago (`recent`). Within one, the highest priority, then the oldest.
# A cap is decided under a lock of its own, held until the claim commits: counting running runs
# without it would let concurrent claimers overshoot. The lock is only tried, never waited for, so
# that claimers cannot deadlock; -1 says that nothing was found but somebody else is deciding.
FORWARD = """
CREATE FUNCTION station_pick_run(recent bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  env record;
  picked bigint;
  contended boolean := false;
BEGIN
  FOR env IN
    SELECT e.id, e.max_running
      FROM environments e
      LEFT JOIN (SELECT environment_id, count(*) AS n FROM agent_runs
                  WHERE status = 'running' GROUP BY environment_id) r ON r.environment_id = e.id
     WHERE NOT e.paused
       AND (e.max_running IS NULL OR coalesce(r.n, 0) < e.max_running)
       AND EXISTS (SELECT FROM agent_runs q WHERE q.environment_id = e.id
                      AND q.status = 'queued' AND q.available_at <= clock_timestamp())
     ORDER BY coalesce(r.n, 0), coalesce(array_position(recent, e.id), 0), e.id
  LOOP
    IF env.max_running IS NOT NULL THEN
      IF NOT pg_try_advisory_xact_lock(hashtextextended('station cap environment', env.id)) THEN
        contended := true;
        CONTINUE;
      END IF;
      CONTINUE WHEN (SELECT count(*) FROM agent_runs
                      WHERE environment_id = env.id AND status = 'running') >= env.max_running;
    END IF;
    picked := station_pick_run_in(env.id);
    IF picked > 0 THEN
      RETURN picked;
    END IF;
    contended := contended OR coalesce(picked = -1, false);
  END LOOP;
  RETURN CASE WHEN contended THEN -1 END;
END $$;

CREATE FUNCTION station_pick_run_in(env bigint) RETURNS bigint LANGUAGE plpgsql AS $$
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
  -- Nearly always there is no circuit, and no claim reads the versions of agents.
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

CREATE FUNCTION station_take_slot(run bigint, agent bigint, key text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
  caps record;
BEGIN
  SELECT a.max_running, a.max_running_per_key INTO caps FROM agents a WHERE a.id = agent;
  IF caps.max_running IS NOT NULL THEN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('station cap agent', agent)) THEN
      RETURN 'contended';
    END IF;
    IF (SELECT count(*) FROM agent_runs r
         WHERE r.agent_id = agent AND r.status = 'running') >= caps.max_running THEN
      RETURN 'full';
    END IF;
  END IF;
  IF key <> '' THEN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('station cap key ' || key, agent)) THEN
      RETURN 'contended';
    END IF;
    IF (SELECT count(*) FROM agent_runs r WHERE r.agent_id = agent AND r.concurrency_key = key
           AND r.status = 'running') >= caps.max_running_per_key THEN
      RETURN 'full';
    END IF;
  END IF;
  PERFORM FROM agent_runs r WHERE r.id = run AND r.status = 'queued'
     FOR NO KEY UPDATE SKIP LOCKED;
  RETURN CASE WHEN FOUND THEN 'taken' ELSE 'gone' END;
END $$;
"""
BACKWARD = """
DROP FUNCTION station_take_slot(bigint, bigint, text);
DROP FUNCTION station_pick_run_in(bigint);
DROP FUNCTION station_pick_run(bigint[]);
"""


class Migration(migrations.Migration):
    dependencies = [
        ("runs", "0005_circuits"),
        ("agents", "0004_caps"),
        ("accounts", "0002_caps"),
    ]

    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
