from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agents", "0004_caps")]

    operations = [
        migrations.AddField(
            model_name="agentversion",
            name="retry",
            field=models.JSONField(blank=True, null=True),
        ),
    ]
