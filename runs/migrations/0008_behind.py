from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("runs", "0007_retries")]

    operations = [
        migrations.AddField(
            model_name="run",
            name="behind",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Others of its key come first; see runs.lanes.",
            ),
        ),
    ]
