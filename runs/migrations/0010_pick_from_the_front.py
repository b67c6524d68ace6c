from django.db import migrations

# Which queued run of an environment is next; the environment was chosen by `station_pick_run`.
#
# The work does not grow with the queue. Nearly always one of the first runs in line can start. Else
# some agent is full, or runs are held back: then each agent that is not full says whom it has, by an
# index of its own. Runs that wait for others of their key are not met at all (`runs/lanes.py`).
FORWARD = """
CREATE OR REPLACE FUNCTION station_pick_run_in(env bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  full_agents bigint[];
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

  FOR q IN
    SELECT c.id, c.agent_id, c.concurrency_key
      FROM (SELECT id, agent_id, concurrency_key, available_at, queue_deadline, started_at, priority
              FROM agent_runs
             WHERE environment_id = env AND status = 'queued' AND NOT behind
             ORDER BY priority DESC, id LIMIT 100) c
     WHERE c.available_at <= clock_timestamp() AND c.agent_id <> ALL (full_agents)
       AND (c.queue_deadline IS NULL OR c.started_at IS NOT NULL
            OR c.queue_deadline > clock_timestamp())
     ORDER BY c.priority DESC, c.id
  LOOP
    verdict := station_take_slot(q.id, q.agent_id, q.concurrency_key);
    IF verdict = 'taken' THEN RETURN q.id; END IF;
    contended := contended OR verdict = 'contended';
  END LOOP;

  FOR q IN
    SELECT h.id, h.agent_id, h.concurrency_key
      FROM agents a CROSS JOIN LATERAL (
        SELECT r.id, r.agent_id, r.concurrency_key, r.priority FROM agent_runs r
         WHERE r.agent_id = a.id AND r.status = 'queued' AND NOT r.behind
           AND r.available_at <= clock_timestamp()
           AND (r.queue_deadline IS NULL OR r.started_at IS NOT NULL
                OR r.queue_deadline > clock_timestamp())
           AND (r.concurrency_key = '' OR a.max_running_per_key > (
                 SELECT count(*) FROM agent_runs o WHERE o.agent_id = r.agent_id
                    AND o.concurrency_key = r.concurrency_key AND o.status = 'running'))
         ORDER BY r.priority DESC, r.id LIMIT 20) h
     WHERE a.environment_id = env AND a.id <> ALL (full_agents)
     ORDER BY h.priority DESC, h.id
     LIMIT 500
  LOOP
    verdict := station_take_slot(q.id, q.agent_id, q.concurrency_key);
    IF verdict = 'taken' THEN RETURN q.id; END IF;
    contended := contended OR verdict = 'contended';
  END LOOP;
  RETURN CASE WHEN contended THEN -1 END;
END $$;

CREATE OR REPLACE FUNCTION station_take_slot(run bigint, agent bigint, key text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
  caps record;
BEGIN
  SELECT a.max_running, a.max_running_per_key INTO caps FROM agents a WHERE a.id = agent;
  -- A look without a lock first: whoever finds it full disturbs nobody.
  IF key <> '' AND caps.max_running_per_key <= (
       SELECT count(*) FROM agent_runs r WHERE r.agent_id = agent AND r.concurrency_key = key
          AND r.status = 'running') THEN
    RETURN 'full';
  END IF;
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

CREATE OR REPLACE FUNCTION station_pick_run(recent bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
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
       -- In the order of an index: EXISTS may read the whole table where there is none.
       AND (SELECT q.id FROM agent_runs q WHERE q.environment_id = e.id
               AND q.status = 'queued' AND NOT q.behind
               AND q.available_at <= clock_timestamp()
               AND (q.queue_deadline IS NULL OR q.started_at IS NOT NULL
                    OR q.queue_deadline > clock_timestamp())
             ORDER BY q.priority DESC, q.id LIMIT 1) IS NOT NULL
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
"""


class Migration(migrations.Migration):
    dependencies = [("runs", "0009_indexes_of_the_front")]

    # The former functions of these names are right with the new column, too.
    operations = [migrations.RunSQL(FORWARD, migrations.RunSQL.noop)]
