from django.db import migrations, models

from station.postgresql.operations import AddIndexRepeatably


class Migration(migrations.Migration):
    atomic = False  # a concurrent index cannot be created inside a transaction

    dependencies = [("runs", "0001_initial")]

    operations = [
        AddIndexRepeatably(
            model_name="run",
            index=models.Index(
                condition=models.Q(("status__in", ["running", "queued"])),
                fields=["status", "created_at"],
                name="idx_agent_runs_status_created",
            ),
        ),
    ]
