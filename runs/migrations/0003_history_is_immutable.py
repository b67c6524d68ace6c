from django.db import migrations

FORWARD = """
CREATE TRIGGER terminal_runs_never_change BEFORE UPDATE ON agent_runs
  FOR EACH ROW WHEN (OLD.status IN ('succeeded', 'failed', 'timed_out', 'cancelled'))
  EXECUTE FUNCTION station_refuse_change();
CREATE TRIGGER events_are_append_only BEFORE UPDATE ON agent_run_events
  FOR EACH ROW EXECUTE FUNCTION station_refuse_change();
-- Room on each page for the updates of running rows, which touch no index.
ALTER TABLE agent_runs SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
"""
BACKWARD = """
ALTER TABLE agent_runs RESET (fillfactor, autovacuum_vacuum_scale_factor);
DROP TRIGGER events_are_append_only ON agent_run_events;
DROP TRIGGER terminal_runs_never_change ON agent_runs;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("runs", "0002_index_by_status_and_age"),
        ("agents", "0003_versions_are_immutable"),
    ]

    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
