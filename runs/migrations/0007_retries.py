import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("runs", "0006_circuits")]

    operations = [
        migrations.AlterField(
            model_name="run",
            name="retry_of",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="runs.run",
            ),
        ),
        migrations.AddField(
            model_name="run",
            name="retries",
            field=models.SmallIntegerField(
                db_default=0,
                default=0,
                help_text="How often its agent's retry policy put it off.",
            ),
        ),
    ]
