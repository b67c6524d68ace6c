from django.db import migrations, models

# Agents whose only model provider is out of reach. An agent with fallback models is never here: its
# runs are claimed, and wait only if no provider of theirs can be asked. So is one whose model has a
# prefix that is no provider's.
VIEW = """
CREATE VIEW agents_unreachable AS
SELECT a.id, c.provider
  FROM model_circuits c
  JOIN agent_versions v ON v.fallback_models = '[]'::jsonb
   AND (starts_with(v.model, c.provider || '/')
        OR (c.serves_default AND v.model = '')
        OR (c.serves_unnamed AND v.model <> '' AND position('/' in v.model) = 0))
  JOIN agents a ON a.current_version_id = v.id
 WHERE greatest(c.retry_at, c.probing_until) > clock_timestamp();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("runs", "0004_caps"),
        ("agents", "0004_caps"),
    ]

    operations = [
        migrations.CreateModel(
            name="Circuit",
            fields=[
                ("provider", models.CharField(max_length=100, primary_key=True, serialize=False)),
                (
                    "serves_unnamed",
                    models.BooleanField(help_text="Models without a prefix are this provider's."),
                ),
                (
                    "serves_default",
                    models.BooleanField(help_text="So is the model of agents that name none."),
                ),
                ("failures", models.PositiveIntegerField(help_text="In a row.")),
                ("failed_at", models.DateTimeField()),
                (
                    "pauses",
                    models.PositiveSmallIntegerField(
                        default=0, help_text="Since it last answered."
                    ),
                ),
                ("retry_at", models.DateTimeField(null=True)),
                ("probing_until", models.DateTimeField(null=True)),
                ("problem", models.TextField()),
            ],
            options={
                "db_table": "model_circuits",
                "ordering": ["provider"],
                "verbose_name": "model circuit",
            },
        ),
        migrations.RunSQL(VIEW, "DROP VIEW agents_unreachable;"),
    ]
