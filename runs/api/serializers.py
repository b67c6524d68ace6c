"""The shapes of runs, their journals and the queue over REST."""

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from runs import decisions
from runs.decisions import Verdict
from runs.entries import Kind
from runs.models import Circuit, Run, Worker
from runs.overview import CappedAgent, Overview
from runs.queue import QueueState, why_queued
from runs.states import Status
from station.accounts.api.fields import (
    AnyObject,
    AnyOf,
    CleanedText,
    Count,
    Moment,
    OneOf,
    Reference,
    Seconds,
    Text,
    Whole,
)
from station.accounts.api.shapes import ListQuery, Shape
from station.accounts.models import QueueSwitch

_STATUSES = [status.value for status in Status]


class UsageSerializer(serializers.Serializer[Run]):
    """What a run used so far."""

    steps = serializers.IntegerField(help_text="Model answers.")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cost_usd = serializers.DecimalField(max_digits=14, decimal_places=8)


class RunErrorSerializer(serializers.Serializer[Run]):
    """Why a run did not succeed."""

    code = serializers.CharField(source="error_code")
    message = serializers.CharField(source="error_message")
    reference = serializers.CharField(
        source="error_reference", help_text="Finds the traceback of a bug in the log."
    )


class LinksSerializer(serializers.Serializer[Run]):
    """Where to go on from a run."""

    self = serializers.CharField()
    events = serializers.CharField()
    stream = serializers.CharField()
    agent = serializers.CharField()


class RunSerializer(serializers.Serializer[Run]):
    """A run, as lists show it."""

    id = serializers.IntegerField()
    environment = serializers.CharField(source="environment.name")
    agent = serializers.CharField(source="agent.name")
    version = serializers.IntegerField(source="version.number")
    status = serializers.ChoiceField(choices=_STATUSES)
    priority = serializers.IntegerField()
    submitted_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    cancel_requested_at = serializers.DateTimeField(allow_null=True)
    wait_reason = serializers.CharField(help_text="Why a waiting run waits.")
    usage = UsageSerializer(source="*")
    error = serializers.SerializerMethodField()

    @extend_schema_field(RunErrorSerializer(allow_null=True))
    def get_error(self, run: Run) -> dict[str, str] | None:
        """Why it did not succeed."""
        return RunErrorSerializer(run).data if run.error_code else None


class OpenCallSerializer(serializers.Serializer[Any]):
    """A tool call that may have happened; a person decides."""

    call_id = serializers.CharField()
    tool = serializers.CharField()
    arguments = serializers.DictField()
    step = serializers.IntegerField()
    index = serializers.IntegerField(help_text="Its place in the model's answer, from 0.")


class RunDetailSerializer(RunSerializer):
    """A run with what it was asked and what it answered."""

    input = serializers.CharField()
    data = serializers.DictField()  # type: ignore[assignment]  # shadows Serializer.data
    timeout = serializers.FloatField(help_text="Seconds of running time.")
    concurrency_key = serializers.CharField(
        help_text="What its data holds at its agent's concurrency key; empty without one."
    )
    retry_of = serializers.IntegerField(
        source="retry_of_id", allow_null=True, help_text="The run it repeats."
    )
    retries = serializers.IntegerField(
        help_text="How often its agent's retry policy put it back into the queue."
    )
    queue_deadline = serializers.DateTimeField(allow_null=True)
    wait_expires_at = serializers.DateTimeField(allow_null=True)
    running_seconds = serializers.SerializerMethodField(
        help_text="Running time until its last stop; the present stretch does not count yet."
    )
    why_queued = serializers.SerializerMethodField(help_text="null unless it is queued.")
    open_calls = serializers.SerializerMethodField(
        help_text="The calls in doubt that it waits to have decided; null when it does not."
    )
    output = serializers.CharField()
    output_data = serializers.JSONField(
        help_text="The answer as its agent's output schema wants it, else null."
    )
    last_seq = serializers.IntegerField(help_text="The number of its last event.")
    links = serializers.SerializerMethodField()

    def get_running_seconds(self, run: Run) -> float:
        """Whole milliseconds, as seconds."""
        return run.running_ms / 1000

    def get_why_queued(self, run: Run) -> str | None:
        """One sentence for a person."""
        return why_queued(run) if run.state is Status.QUEUED else None

    @extend_schema_field(OpenCallSerializer(many=True, allow_null=True))
    def get_open_calls(self, run: Run) -> list[Any] | None:
        """What `decide` wants to hear about."""
        if run.state is not Status.WAITING or run.wait_reason != "doubt":
            return None
        return list(decisions.open_calls(run))

    @extend_schema_field(LinksSerializer)
    def get_links(self, run: Run) -> dict[str, str]:
        """Paths on this server."""
        own = {"run": run.pk}
        return {
            "self": reverse("run", kwargs=own),
            "events": reverse("run-events", kwargs=own),
            "stream": reverse("run-stream", kwargs=own),
            "agent": reverse(
                "agent",
                kwargs={"agent": run.agent.name},
                query={"environment": run.environment.name},
            ),
        }


class EventSerializer(serializers.Serializer[Any]):
    """A journaled step of a run; docs/journal.md tells the payloads."""

    seq = serializers.IntegerField(help_text="Counts from 1, without gaps.")
    kind = serializers.ChoiceField(choices=[kind.value for kind in Kind])
    at = serializers.DateTimeField()
    payload = serializers.DictField()


class EventPageSerializer(serializers.Serializer[Any]):
    """Steps in order."""

    items = EventSerializer(many=True)
    next = serializers.URLField(
        allow_null=True, help_text="The address of the steps behind these; null: no more yet."
    )


class QueueStateSerializer(serializers.Serializer[QueueState]):
    """How the queue of one environment stands."""

    environment = serializers.CharField()
    paused = serializers.BooleanField(
        help_text="It starts no run: it is paused itself, or the whole queue is."
    )
    max_running = serializers.IntegerField(
        allow_null=True, help_text="Most runs at once; null: no cap."
    )
    queued = serializers.IntegerField()
    running = serializers.IntegerField()
    waiting = serializers.IntegerField()
    oldest_queued_at = serializers.DateTimeField(allow_null=True)


class CappedAgentSerializer(serializers.Serializer[CappedAgent]):
    """How full an agent with a cap is."""

    environment = serializers.CharField()
    agent = serializers.CharField()
    paused = serializers.BooleanField()
    queued = serializers.IntegerField()
    running = serializers.IntegerField()
    max_running = serializers.IntegerField(
        allow_null=True, help_text="Most runs at once; null: no cap."
    )
    concurrency_key = serializers.CharField(help_text="Empty: no cap by a value in the data.")
    max_running_per_key = serializers.IntegerField(
        allow_null=True, help_text="Most runs at once of one value of the key; null without a key."
    )
    keys_running = serializers.IntegerField(help_text="Values of the key that have runs running.")
    keys_full = serializers.IntegerField(help_text="Those of them that are at the cap.")


class WorkerSerializer(serializers.Serializer[Worker]):
    """A live worker process."""

    name = serializers.CharField()
    host = serializers.CharField()
    slots = serializers.IntegerField(help_text="How many runs it carries at once.")
    busy = serializers.IntegerField()
    draining = serializers.BooleanField(help_text="It is shutting down and takes no more.")
    started_at = serializers.DateTimeField()
    seen_at = serializers.DateTimeField()


class CircuitSerializer(serializers.Serializer[Circuit]):
    """A model provider that is down."""

    provider = serializers.CharField()
    failures = serializers.IntegerField(help_text="In a row.")
    failed_at = serializers.DateTimeField()
    retry_at = serializers.DateTimeField(help_text="When one run tries it again.")
    problem = serializers.CharField()


class QueueSwitchSerializer(serializers.Serializer[QueueSwitch]):
    """The switch of the whole queue."""

    paused = serializers.BooleanField(help_text="No run starts, in no environment.")
    by = serializers.CharField(help_text="Who paused it; empty when it is not.")
    since = serializers.DateTimeField(allow_null=True)


class QueueSerializer(serializers.Serializer[Overview]):
    """The queues of your environments, and who works on all queues."""

    switch = QueueSwitchSerializer()
    environments = QueueStateSerializer(many=True)
    agents = CappedAgentSerializer(many=True, help_text="Those that have a cap of their own.")
    workers = WorkerSerializer(many=True)
    circuits = CircuitSerializer(
        many=True, help_text="Model providers that are down; runs that need one wait for it."
    )


# --- requests -------------------------------------------------------------------------------


class NewRun(Shape):
    """What a run is to do."""

    input = CleanedText(required=False, allow_blank=True, help_text="The task, in words.")
    data = AnyObject(  # type: ignore[assignment]  # shadows Serializer.data
        required=False, cleaned=True, help_text="The task's particulars."
    )
    priority = Whole(required=False, help_text="-100 to 100; higher first; 0 if omitted.")
    timeout = Seconds(required=False, help_text="Of running time; the agent's if omitted.")
    queue_timeout = Seconds(
        required=False, help_text="How long it may stay queued; forever if omitted."
    )


class RunFilters(Shape):
    """Which runs."""

    environment = Reference(required=False, help_text="Name or id of the environment.")
    agent = Reference(required=False, help_text="Name or id of the agent.")
    status = AnyOf(_STATUSES, required=False, help_text="One or more, separated by commas.")
    created_after = Moment(required=False)
    created_before = Moment(required=False)
    submitted_by = Text(required=False, help_text="As runs show it.")


class RunQuery(RunFilters, ListQuery):
    """Which runs."""


class DecisionShape(Shape):
    """What became of one call in doubt."""

    call_id = CleanedText(help_text="As `open_calls` says.")
    verdict = OneOf(
        [verdict.value for verdict in Verdict],
        help_text="happened: go on with `result`; repeat: make it again; stop: end the run.",
    )
    result = CleanedText(
        required=False,
        allow_blank=True,
        help_text="With `happened`: what the model reads as the tool's result.",
    )


class DecisionsShape(Shape):
    """What became of every call in doubt."""

    decisions = DecisionShape(
        many=True,
        error_messages={
            "not_a_list": "must be a list of decisions",
            "null": "must be a list of decisions, not null",
        },
    )
    why = CleanedText(required=False, allow_blank=True, help_text="Kept in the journal.")


class CancelledSerializer(serializers.Serializer[Any]):
    """How a bulk cancellation went."""

    cancelled = serializers.IntegerField(help_text="Ended now, or told to stop.")


class QueueQuery(Shape):
    """Which environments."""

    environment = Reference(required=False, help_text="Name or id: only this one.")


class EventQuery(Shape):
    """Which events."""

    after = Count(required=False, at_least=0, at_most=2**31 - 1, help_text="Behind this `seq`.")
    limit = Count(
        required=False, at_least=1, at_most=200, help_text="Events a page; 100 if omitted."
    )
