from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("runs", "0006_pick_run")]

    operations = [
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
