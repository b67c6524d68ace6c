"""The shapes of agents and their versions over REST."""

from typing import Any

from rest_framework import serializers

from agents.models import Agent, AgentVersion
from agents.retrying import RETRYABLE
from station.accounts.api.fields import (
    AnyObject,
    Flag,
    OneOf,
    Reference,
    Seconds,
    Switch,
    Text,
    Texts,
    Whole,
)
from station.accounts.api.shapes import InEnvironment, ListQuery, Shape

_ENVIRONMENT = "Name or id of the environment."


class RetrySerializer(serializers.Serializer[Any]):
    """Which failures put a run back into the queue, and for how long."""

    on = serializers.ListField(child=serializers.ChoiceField(choices=RETRYABLE))
    at_most = serializers.IntegerField(help_text="Retries of one run.")
    backoff = serializers.FloatField(
        help_text="Seconds before the first retry; twice as many before each one after it."
    )
    longest = serializers.FloatField(help_text="Most seconds before a retry.")


class DefinitionSerializer(serializers.Serializer[AgentVersion]):
    """What one version of an agent says."""

    prompt = serializers.CharField()
    model = serializers.CharField(help_text="Empty: the configured model.")
    fallback_models = serializers.ListField(child=serializers.CharField())
    parameters = serializers.DictField(help_text="Passed to the model, like `temperature`.")
    tools = serializers.ListField(
        child=serializers.CharField(), help_text="Grants: `server/tool` or `server/*`."
    )
    max_steps = serializers.IntegerField()
    timeout = serializers.FloatField(
        allow_null=True, help_text="Seconds of running time; null: the configured default."
    )
    output_schema = serializers.DictField(
        allow_null=True, help_text="JSON Schema of the answer; null: free text."
    )
    retry = RetrySerializer(
        allow_null=True, help_text="When a failed run goes on; null: a failure is final."
    )


class VersionSerializer(serializers.Serializer[AgentVersion]):
    """A version of an agent; it never changes."""

    number = serializers.IntegerField()
    definition = DefinitionSerializer(source="*")
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()


class AgentSerializer(serializers.Serializer[Agent]):
    """An agent, as lists show it."""

    id = serializers.IntegerField()
    environment = serializers.CharField(source="environment.name")
    name = serializers.CharField()
    description = serializers.CharField()
    enabled = serializers.BooleanField(help_text="A disabled agent accepts no runs.")
    paused = serializers.BooleanField(help_text="A paused agent accepts runs but starts none.")
    max_running = serializers.IntegerField(
        allow_null=True, help_text="Most runs at once; null: no cap."
    )
    concurrency_key = serializers.CharField(
        help_text="Path into a run's `data`: runs of one value are capped. Empty: none."
    )
    max_running_per_key = serializers.IntegerField(
        help_text="Most runs at once with the same value of the concurrency key."
    )
    version = serializers.IntegerField(
        source="current_version.number", help_text="The number of its current version."
    )
    created_at = serializers.DateTimeField()


class AgentDetailSerializer(AgentSerializer):
    """An agent with the definition of its current version."""

    definition = DefinitionSerializer(source="current_version")


# --- requests -------------------------------------------------------------------------------


class AgentQuery(ListQuery):
    """Which agents."""

    environment = Reference(required=False, help_text=_ENVIRONMENT)
    name = Text(required=False)
    enabled = Switch(required=False)
    paused = Switch(required=False)


class VersionQuery(ListQuery, InEnvironment):
    """Which page of versions."""


class RetryShape(Shape):
    """Which failures put a run back into the queue, and for how long."""

    on = serializers.ListField(
        required=False,
        child=OneOf(RETRYABLE),
        help_text="Error codes; required unless the object is empty, which is no policy.",
        error_messages={"not_a_list": "must be a list of error codes", "null": "must not be null"},
    )
    at_most = Whole(required=False, help_text="1 to 20 retries of one run; 3 if omitted.")
    backoff = Seconds(
        required=False,
        help_text="Before the first retry; twice as long before each one after it. At most 1 h; "
        "10 s if omitted.",
    )
    longest = Seconds(
        required=False,
        help_text="The most before a retry. At least `backoff`, at most 24 h; 5 m if omitted.",
    )


class DefinitionShape(Shape):
    """What a version of an agent says."""

    prompt = Text(help_text="What the agent is told before the input of a run.")
    model = Text(required=False, allow_blank=True, help_text="The configured one if omitted.")
    fallback_models = Texts(required=False, help_text="Tried in order when the model fails.")
    parameters = AnyObject(required=False, help_text="Passed to the model, like `temperature`.")
    tools = Texts(required=False, help_text="Grants: `server/tool` or `server/*`.")
    max_steps = Whole(required=False, help_text="25 if omitted.")
    timeout = Seconds(
        required=False, allow_null=True, help_text="Of running time; the configured one if omitted."
    )
    output_schema = AnyObject(
        required=False, allow_null=True, help_text="JSON Schema of the answer."
    )
    retry = RetryShape(
        required=False, allow_null=True, help_text="When a failed run goes on; never if omitted."
    )


class NewAgent(Shape):
    """An agent to create, with its first version."""

    environment = Reference(help_text=_ENVIRONMENT)
    name = Text(help_text="Lower-case letters, digits and inner hyphens.")
    description = Text(required=False, allow_blank=True)
    definition = DefinitionShape()


class AgentChange(Shape):
    """What to change; the rest stays."""

    enabled = Flag(required=False)
    paused = Flag(required=False)
    description = Text(required=False, allow_blank=True)
    max_running = Whole(
        required=False, allow_null=True, help_text="Most runs at once; null lifts the cap."
    )
    concurrency_key = Text(
        required=False,
        allow_blank=True,
        help_text="Path into a run's `data`, like `customer.id`; empty for none.",
    )
    max_running_per_key = Whole(required=False, help_text="At least 1.")
