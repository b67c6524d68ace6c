from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    atomic = False  # a concurrent index cannot be removed inside a transaction

    dependencies = [("runs", "0010_pick_from_the_front")]

    operations = [
        RemoveIndexConcurrently(model_name="run", name="agent_runs_queue"),
        RemoveIndexConcurrently(model_name="run", name="agent_runs_lanes"),
    ]
