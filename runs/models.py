"""What a run is: its row, its journal, and the workers that carry runs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from agents.models import Agent, AgentVersion
from runs.states import TERMINAL, Status
from station.accounts.models import Environment

_STATUSES = [(status.value, status.value) for status in Status]


class Run(models.Model):
    """One request to an agent, from submission to its terminal status.

    The row is the queue: it exists because its transaction committed, and a worker owns it only
    as long as its lease lasts and its ``fence`` is the present one. Change it through
    :mod:`runs.transitions` and :mod:`runs.journal` only.
    """

    environment = models.ForeignKey(
        Environment, models.CASCADE, related_name="runs", db_index=False
    )
    agent = models.ForeignKey(Agent, models.CASCADE, related_name="runs", db_index=False)
    version = models.ForeignKey(AgentVersion, models.CASCADE, related_name="runs", db_index=False)
    status = models.CharField(max_length=10, choices=_STATUSES, default=Status.QUEUED.value)

    input = models.TextField()
    data = models.JSONField(default=dict)
    priority = models.SmallIntegerField(default=0)
    timeout = models.FloatField(help_text="Seconds of running time; waiting does not count.")
    concurrency_key = models.CharField(max_length=200, blank=True)
    behind = models.BooleanField(
        default=False, db_default=False, help_text="Others of its key come first; see runs.lanes."
    )
    retry_of = models.ForeignKey(
        "self",
        models.DO_NOTHING,
        null=True,
        related_name="+",
        db_index=False,
        db_constraint=False,  # finished rows never change, not even when their origin is deleted
    )
    queue_deadline = models.DateTimeField(null=True)
    submitted_by = models.CharField(max_length=200)
    submitter_kind = models.CharField(max_length=10)
    submitter_id = models.CharField(max_length=200)
    request_id = models.CharField(max_length=64, blank=True)

    created_at = models.DateTimeField(db_default=Now())
    available_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True)
    claimed_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    wait_reason = models.CharField(max_length=20, blank=True)
    wait_expires_at = models.DateTimeField(null=True)

    worker = models.CharField(max_length=200, blank=True)
    fence = models.BigIntegerField(default=0)
    lease_expires_at = models.DateTimeField(null=True)
    crashes = models.SmallIntegerField(default=0)
    retries = models.SmallIntegerField(
        default=0, db_default=0, help_text="How often its agent's retry policy put it off."
    )
    running_ms = models.BigIntegerField(
        default=0, help_text="Running time of earlier claims, in milliseconds."
    )

    last_seq = models.IntegerField(default=0)
    steps = models.IntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost_usd = models.DecimalField(max_digits=14, decimal_places=8, default=0)

    output = models.TextField(blank=True)
    output_data = models.JSONField(null=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_message = models.TextField(blank=True)
    error_reference = models.CharField(
        max_length=32, blank=True, help_text="Finds the traceback of a bug in the log."
    )

    class Meta:
        db_table = "agent_runs"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["environment", "-id"], name="agent_runs_of_environment"),
            models.Index(fields=["agent", "-id"], name="agent_runs_of_agent"),
            models.Index(fields=["status", "-id"], name="agent_runs_of_status"),
            models.Index(
                fields=["status", "created_at"],
                condition=Q(status__in=["running", "queued"]),
                name="idx_agent_runs_status_created",
            ),
            models.Index(
                "environment",
                F("priority").desc(),
                "id",
                condition=Q(status="queued", behind=False),
                name="agent_runs_front",
            ),
            models.Index(
                "agent",
                F("priority").desc(),
                "id",
                condition=Q(status="queued", behind=False),
                name="agent_runs_front_of_agent",
            ),
            models.Index(
                fields=["agent", "concurrency_key"],
                condition=Q(status="queued", behind=False) & ~Q(concurrency_key=""),
                name="agent_runs_front_of_lane",
            ),
            models.Index(
                "agent",
                "concurrency_key",
                F("priority").desc(),
                "id",
                condition=Q(status="queued", behind=True),
                name="agent_runs_behind",
            ),
            models.Index(
                fields=["agent", "concurrency_key", "environment"],
                condition=Q(status="running"),
                name="agent_runs_running",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                name="run_status_is_known", condition=Q(status__in=[s.value for s in Status])
            ),
            models.CheckConstraint(
                name="running_runs_have_a_lease",
                condition=~Q(status="running")
                | (Q(lease_expires_at__isnull=False) & ~Q(worker="") & Q(fence__gte=1)),
            ),
            models.CheckConstraint(
                name="finished_at_only_and_always_at_the_end",
                condition=Q(status__in=sorted(s.value for s in TERMINAL), finished_at__isnull=False)
                | (~Q(status__in=sorted(s.value for s in TERMINAL)) & Q(finished_at__isnull=True)),
            ),
        ]

    def __str__(self) -> str:
        return f"run {self.pk}"

    @property
    def state(self) -> Status:
        return Status(self.status)

    @property
    def is_terminal(self) -> bool:
        return self.state in TERMINAL


class RunEvent(models.Model):
    """A step of a run, never changed. ``seq`` counts from 1 without gaps within a run."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    run = models.ForeignKey(Run, models.CASCADE, related_name="events", db_index=False)
    seq = models.IntegerField()
    kind = models.CharField(max_length=32)
    at = models.DateTimeField(db_default=Now())
    payload: models.JSONField[Mapping[str, Any], dict[str, Any]] = models.JSONField(default=dict)

    class Meta:
        db_table = "agent_run_events"
        ordering = ["seq"]
        constraints = [models.UniqueConstraint(fields=["run", "seq"], name="event_seq_unique")]

    def __str__(self) -> str:
        return f"{self.seq} {self.kind}"


class Submission(models.Model):
    """An Idempotency-Key and the run it stands for. Kept for 24 hours."""

    environment = models.ForeignKey(Environment, models.CASCADE)
    principal = models.CharField(max_length=220)
    key = models.CharField(max_length=255)
    digest = models.CharField(max_length=64)
    run = models.ForeignKey(Run, models.CASCADE, null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "run_submissions"
        indexes = [models.Index(fields=["created_at"], name="submissions_by_age")]
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "principal", "key"], name="idempotency_key_unique"
            )
        ]

    def __str__(self) -> str:
        return self.key


class Circuit(models.Model):
    """A model provider that failed of late; while ``retry_at`` is ahead, nobody asks it.

    Change it through :mod:`runs.circuits` only. The view ``agents_unreachable`` has the agents
    whose only provider is out of reach.
    """

    provider = models.CharField(max_length=100, primary_key=True)
    serves_unnamed = models.BooleanField(help_text="Models without a prefix are this provider's.")
    serves_default = models.BooleanField(help_text="So is the model of agents that name none.")
    failures = models.PositiveIntegerField(help_text="In a row.")
    failed_at = models.DateTimeField()
    pauses = models.PositiveSmallIntegerField(default=0, help_text="Since it last answered.")
    retry_at = models.DateTimeField(null=True)
    probing_until = models.DateTimeField(null=True)
    problem = models.TextField()

    class Meta:
        db_table = "model_circuits"
        ordering = ["provider"]
        verbose_name = "model circuit"

    def __str__(self) -> str:
        return self.provider


class Worker(models.Model):
    """A live worker process, as it last reported itself."""

    name = models.CharField(max_length=200, primary_key=True)
    host = models.CharField(max_length=200)
    pid = models.IntegerField()
    slots = models.IntegerField()
    busy = models.IntegerField(default=0)
    draining = models.BooleanField(default=False)
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "run_workers"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
