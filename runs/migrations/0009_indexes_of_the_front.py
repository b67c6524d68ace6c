from django.db import migrations, models

from station.postgresql.operations import AddIndexRepeatably


class Migration(migrations.Migration):
    atomic = False  # a concurrent index cannot be created inside a transaction

    dependencies = [("runs", "0008_behind")]

    operations = [
        AddIndexRepeatably(
            model_name="run",
            index=models.Index(
                models.F("environment"),
                models.OrderBy(models.F("priority"), descending=True),
                models.F("id"),
                condition=models.Q(("behind", False), ("status", "queued")),
                name="agent_runs_front",
            ),
        ),
        AddIndexRepeatably(
            model_name="run",
            index=models.Index(
                models.F("agent"),
                models.OrderBy(models.F("priority"), descending=True),
                models.F("id"),
                condition=models.Q(("behind", False), ("status", "queued")),
                name="agent_runs_front_of_agent",
            ),
        ),
        AddIndexRepeatably(
            model_name="run",
            index=models.Index(
                condition=models.Q(
                    ("behind", False),
                    ("status", "queued"),
                    models.Q(("concurrency_key", ""), _negated=True),
                ),
                fields=["agent", "concurrency_key"],
                name="agent_runs_front_of_lane",
            ),
        ),
        AddIndexRepeatably(
            model_name="run",
            index=models.Index(
                models.F("agent"),
                models.F("concurrency_key"),
                models.OrderBy(models.F("priority"), descending=True),
                models.F("id"),
                condition=models.Q(("behind", True), ("status", "queued")),
                name="agent_runs_behind",
            ),
        ),
    ]
