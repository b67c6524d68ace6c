"""The shapes of tool servers and tools over REST."""

from typing import Any

from rest_framework import serializers

from station.accounts.api.fields import (
    Count,
    Flag,
    OneOf,
    Reference,
    Switch,
    Text,
    TextMap,
    Texts,
)
from station.accounts.api.shapes import InEnvironment, ListQuery, Shape
from toolservers.definition import ServerReport
from toolservers.logs import StderrLine
from toolservers.models import Tool, ToolServer

_ENVIRONMENT = "Name or id of the environment."
_LEFT_OUT = "A line for each tool it lists that cannot be used."
_FILLED = "May hold `${var:NAME}` and `${secret:NAME}`."


class ToolServerSerializer(serializers.Serializer[ToolServer]):
    """A tool server's definition, as it was written: variables are not filled in."""

    id = serializers.IntegerField()
    environment = serializers.CharField(source="environment.name")
    name = serializers.CharField()
    transport = serializers.ChoiceField(choices=ToolServer.Transport.values)
    command = serializers.CharField()
    args = serializers.ListField(child=serializers.CharField())
    env = serializers.DictField(child=serializers.CharField())
    url = serializers.CharField()
    headers = serializers.DictField(child=serializers.CharField())
    enabled = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    discovered_at = serializers.DateTimeField(allow_null=True)
    last_error = serializers.CharField(help_text="Why it could not be discovered last time.")
    left_out = serializers.ListField(child=serializers.CharField(), help_text=_LEFT_OUT)


class ToolSerializer(serializers.Serializer[Tool]):
    """A tool as its server last described it."""

    id = serializers.IntegerField()
    environment = serializers.CharField(source="server.environment.name")
    server = serializers.CharField(source="server.name")
    name = serializers.CharField()
    description = serializers.CharField()
    input_schema = serializers.DictField()
    annotations = serializers.DictField(help_text="Claims of the server; they count if approved.")
    available = serializers.BooleanField(help_text="Offered at the last discovery.")
    digest = serializers.CharField(help_text="Names this very definition.")
    approved = serializers.BooleanField(help_text="A person vouched for this very definition.")
    approved_by = serializers.CharField()
    repeatable = serializers.BooleanField(
        help_text="A call whose outcome is unknown may be made again without asking a person."
    )


class OfferedToolSerializer(serializers.Serializer[Any]):
    """A tool a server offered while it was tried."""

    name = serializers.CharField()
    description = serializers.CharField()


class FailureSerializer(serializers.Serializer[Any]):
    """Why a server did not pass."""

    code = serializers.CharField()
    detail = serializers.CharField(source="message")
    fix = serializers.CharField()


class ReportSerializer(serializers.Serializer[ServerReport]):
    """What a server that works said of itself. Times are in seconds."""

    protocol_version = serializers.CharField()
    server_name = serializers.CharField()
    server_version = serializers.CharField()
    connect_seconds = serializers.FloatField()
    latency = serializers.FloatField(help_text="Of `tools/list`.")
    tools = OfferedToolSerializer(many=True, source="listed.tools")
    left_out = serializers.ListField(
        child=serializers.CharField(), source="listed.left_out", help_text=_LEFT_OUT
    )


class ToolServerTestSerializer(serializers.Serializer[Any]):
    """How a server did when it was tried: a report, or a failure."""

    ok = serializers.BooleanField()
    report = ReportSerializer(allow_null=True)
    failure = FailureSerializer(allow_null=True)


class StderrLineSerializer(serializers.Serializer[StderrLine]):
    """A line of standard error."""

    at = serializers.FloatField(help_text="Unix time in seconds.")
    line = serializers.CharField()


class StderrSerializer(serializers.Serializer[Any]):
    """The last lines a server wrote to standard error, oldest first."""

    items = StderrLineSerializer(many=True)


class DiscoverySerializer(serializers.Serializer[Any]):
    """The tools a server offers now."""

    items = ToolSerializer(many=True)


# --- requests -------------------------------------------------------------------------------


class ToolServerQuery(ListQuery):
    """Which tool servers."""

    environment = Reference(required=False, help_text=_ENVIRONMENT)
    name = Text(required=False)
    enabled = Switch(required=False)


class LogQuery(InEnvironment):
    """Which lines."""

    lines = Count(required=False, at_least=1, at_most=1000, help_text="100 if omitted.")


class NewToolServer(Shape):
    """A tool server to register."""

    environment = Reference(help_text=_ENVIRONMENT)
    name = Text(help_text="Lower-case letters, digits and inner hyphens.")
    transport = OneOf(ToolServer.Transport.values)
    command = Text(required=False, allow_blank=True, help_text="For stdio.")
    args = Texts(required=False, help_text=_FILLED)
    env = TextMap(required=False, help_text=_FILLED)
    url = Text(required=False, allow_blank=True, help_text=f"For http and sse. {_FILLED}")
    headers = TextMap(required=False, help_text=_FILLED)


class ToolServerChange(Shape):
    """What to change; the rest stays."""

    enabled = Flag(required=False)


class ToolQuery(ListQuery):
    """Which tools."""

    environment = Reference(required=False, help_text=_ENVIRONMENT)
    server = Reference(required=False, help_text="Name or id of the tool server.")
    available = Switch(required=False)
    approved = Switch(required=False)


class Approval(Shape):
    """Which definition of the tool a person vouches for."""

    digest = Text(help_text="The `digest` of the tool that was looked at.")
