from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("toolservers", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="toolserver",
            name="left_out",
            field=models.JSONField(
                db_default=models.Value([], models.JSONField()),
                default=list,
                editable=False,
                help_text="A line for each tool it lists that cannot be used.",
            ),
        ),
    ]
