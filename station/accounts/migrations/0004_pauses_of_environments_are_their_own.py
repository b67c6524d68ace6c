from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_pause_of_the_whole_queue"),
    ]

    operations = [
        migrations.RunSQL(
            "UPDATE environments SET paused_itself = true WHERE paused",
            migrations.RunSQL.noop,
        ),
    ]
