"""The registry: which tool servers an environment has, and what each was found to offer."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from station.accounts.models import NAME, Environment
from toolservers.definition import LONGEST_TOOL_NAME


class ToolServer(models.Model):
    """The definition of an MCP server.

    ``args``, ``env``, ``headers`` and ``url`` may refer to variables of the environment as
    ``${var:NAME}`` and ``${secret:NAME}``; the stored text never holds a secret.
    """

    class Transport(models.TextChoices):
        STDIO = "stdio", "stdio (a command on the worker's host)"
        HTTP = "http", "streamable HTTP"
        SSE = "sse", "HTTP with server-sent events (legacy)"

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="tool_servers")
    name = models.CharField(max_length=63, validators=[NAME])
    transport = models.CharField(max_length=8, choices=Transport.choices)
    command = models.CharField(max_length=500, blank=True)
    args = models.JSONField(default=list, blank=True)
    env = models.JSONField(default=dict, blank=True)
    url = models.CharField(max_length=2000, blank=True)
    headers = models.JSONField(default=dict, blank=True)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    discovered_at = models.DateTimeField(null=True, editable=False)
    last_error = models.TextField(blank=True, editable=False)
    left_out = models.JSONField(
        default=list,
        db_default=models.Value([], models.JSONField()),
        editable=False,
        help_text="A line for each tool it lists that cannot be used.",
    )

    class Meta:
        db_table = "tool_servers"
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "name"], name="tool_server_name_unique_in_environment"
            ),
            models.CheckConstraint(
                name="tool_server_has_command_or_url",
                condition=(models.Q(transport="stdio", url="") & ~models.Q(command=""))
                | (models.Q(transport__in=["http", "sse"], command="") & ~models.Q(url="")),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def texts(self) -> list[str]:
        """Every text of the definition that may refer to variables."""
        return [self.url, *self.args, *self.env.values(), *self.headers.values()]


class Tool(models.Model):
    """A tool as its server last described it.

    ``digest`` names the definition; ``approved_digest`` is the definition a person vouched for.
    Only while the two are equal do the annotations count: a server may change its word.
    """

    server = models.ForeignKey(ToolServer, models.CASCADE, related_name="tools")
    name = models.CharField(max_length=LONGEST_TOOL_NAME)
    description = models.TextField(blank=True)
    input_schema = models.JSONField(default=dict)
    annotations = models.JSONField(default=dict)
    digest = models.CharField(max_length=64)
    approved_digest = models.CharField(max_length=64, blank=True)
    approved_by = models.CharField(max_length=200, blank=True)
    available = models.BooleanField(default=True, help_text="Offered at the last discovery.")

    class Meta:
        db_table = "tools"
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["server", "name"], name="tool_name_unique_in_server")
        ]

    def __str__(self) -> str:
        return f"{self.server}/{self.name}"

    @property
    def approved(self) -> bool:
        """Whether a person vouched for the definition the server gives today."""
        return self.digest == self.approved_digest

    @property
    def repeatable(self) -> bool:
        """Whether a call whose outcome is unknown may be made again without asking a person."""
        hints = self.annotations
        vouched = hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True
        return self.approved and vouched
