"""What an agent is: a name in an environment, and immutable versions of its definition."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from station.accounts.models import NAME, Environment


class Agent(models.Model):
    """A named agent. What it does is in its current version."""

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="agents")
    name = models.CharField(max_length=63, validators=[NAME])
    description = models.CharField(max_length=500, blank=True)
    enabled = models.BooleanField(default=True, help_text="A disabled agent accepts no runs.")
    paused = models.BooleanField(
        default=False, help_text="A paused agent accepts runs but starts none."
    )
    max_running = models.PositiveIntegerField(
        null=True, blank=True, help_text="Most runs at once; empty for no cap."
    )
    concurrency_key = models.CharField(
        max_length=200,
        blank=True,
        help_text="Path into a run's data, such as customer.id: runs of one value are capped.",
    )
    max_running_per_key = models.PositiveIntegerField(
        default=1, help_text="Most runs at once with the same concurrency key."
    )
    current_version = models.ForeignKey(
        "AgentVersion", models.PROTECT, null=True, editable=False, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "agents"
        ordering = ["name"]
        indexes = [
            models.Index(
                fields=["environment", "enabled"],
                condition=models.Q(enabled=True),
                name="idx_agents_environment_enabled",
            )
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "name"], name="agent_name_unique_in_environment"
            )
        ]

    def __str__(self) -> str:
        return self.name


class AgentVersion(models.Model):
    """A definition of an agent, never changed once stored (the database refuses it).

    ``tools`` grants tools by name: ``server/tool`` or ``server/*``, of the same environment.
    ``timeout`` is seconds of running time, and ``None`` means the configured default.
    ``retry`` is a :class:`agents.retrying.RetryPolicy`, and ``None`` means a failure is final.
    """

    agent = models.ForeignKey(Agent, models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    prompt = models.TextField()
    model = models.CharField(max_length=200, blank=True, help_text="Empty: the configured model.")
    fallback_models = models.JSONField(default=list, blank=True)
    parameters = models.JSONField(default=dict, blank=True)
    tools = models.JSONField(default=list, blank=True)
    max_steps = models.PositiveSmallIntegerField(default=25)
    timeout = models.FloatField(null=True, blank=True)
    output_schema = models.JSONField(null=True, blank=True)
    retry = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    created_by = models.CharField(max_length=200, editable=False)

    class Meta:
        db_table = "agent_versions"
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["agent", "number"], name="version_number_unique"),
            models.CheckConstraint(
                name="version_limits_are_positive",
                condition=models.Q(max_steps__gte=1)
                & (models.Q(timeout=None) | models.Q(timeout__gt=0)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.agent} v{self.number}"
