from django.db import migrations, models

from station.postgresql.operations import AddIndexRepeatably


class Migration(migrations.Migration):
    atomic = False  # a concurrent index cannot be created inside a transaction

    dependencies = [("agents", "0001_initial")]

    operations = [
        AddIndexRepeatably(
            model_name="agent",
            index=models.Index(
                condition=models.Q(("enabled", True)),
                fields=["environment", "enabled"],
                name="idx_agents_environment_enabled",
            ),
        ),
    ]
