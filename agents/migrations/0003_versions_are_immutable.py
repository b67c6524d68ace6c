from django.db import migrations

FORWARD = """
CREATE FUNCTION station_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% rows never change', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER versions_are_immutable BEFORE UPDATE ON agent_versions
  FOR EACH ROW EXECUTE FUNCTION station_refuse_change();
"""
BACKWARD = """
DROP TRIGGER versions_are_immutable ON agent_versions;
DROP FUNCTION station_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("agents", "0002_index_of_enabled_agents")]

    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
