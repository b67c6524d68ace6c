"""Tool servers and their tools."""

from django.db.models import F, Q
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from station.accounts import services as accounts
from station.accounts.api.door import Door, filtering, operation, page_of
from station.accounts.api.shapes import InEnvironment
from toolservers import inspection, services
from toolservers.api.serializers import (
    Approval,
    DiscoverySerializer,
    LogQuery,
    NewToolServer,
    StderrSerializer,
    ToolQuery,
    ToolSerializer,
    ToolServerChange,
    ToolServerQuery,
    ToolServerSerializer,
    ToolServerTestSerializer,
)
from toolservers.errors import ToolServerError
from toolservers.models import ToolServer

_BY_REFERENCE = "By id, or by name; with `environment` where several know the name."


class ToolServers(Door):
    """The tool servers of your environments."""

    @operation(
        "tool_servers_list",
        "List tool servers",
        tag="tool-servers",
        query=ToolServerQuery,
        answer=page_of(ToolServerSerializer),
    )
    def get(self, request: Request) -> Response:
        rows = services.visible(self.principal)
        if (environment_id := self.wanted_environment()) is not None:
            rows = rows.filter(environment_id=environment_id)
        exact = {name: self.wanted[name] for name in ("name", "enabled") if name in self.wanted}
        return self.page(rows.filter(**exact), ToolServerSerializer)

    @operation(
        "tool_servers_create",
        "Register a tool server",
        tag="tool-servers",
        body=NewToolServer,
        status=201,
        answer=ToolServerSerializer,
        problems=[403, 404, 409],
        description="For admins of the environment. A stdio server runs a command on Station's "
        "hosts: that takes a platform admin, and a command of the operator's allow-list.",
    )
    def post(self, request: Request) -> Response:
        wanted = dict(self.given)
        found = accounts.environment(self.principal, wanted.pop("environment"))
        row = services.add(self.principal, environment_id=found.pk, **wanted)
        return self.created(ToolServerSerializer(row).data, "tool-server", server=row.pk)


class _OfToolServer(Door):
    """What belongs to one tool server."""

    def server(self, reference: str) -> ToolServer:
        """The visible server. Raises ``ToolServerNotFound`` and ``Conflict``."""
        return services.get(self.principal, reference, environment_id=self.wanted_environment())


class OneToolServer(_OfToolServer):
    """A tool server."""

    @operation(
        "tool_servers_get",
        "Get a tool server",
        tag="tool-servers",
        query=InEnvironment,
        answer=ToolServerSerializer,
        problems=[404, 409],
        description=_BY_REFERENCE,
    )
    def get(self, request: Request, server: str) -> Response:
        return Response(ToolServerSerializer(self.server(server)).data)

    @operation(
        "tool_servers_change",
        "Enable or disable a tool server",
        tag="tool-servers",
        query=InEnvironment,
        body=ToolServerChange,
        answer=ToolServerSerializer,
        problems=[403, 404, 409],
        description=f"For operators of its environment. {_BY_REFERENCE}",
    )
    def patch(self, request: Request, server: str) -> Response:
        row = self.server(server)
        row = services.enable(self.principal, row, enabled=self.given.get("enabled", row.enabled))
        return Response(ToolServerSerializer(row).data)

    @operation(
        "tool_servers_delete",
        "Forget a tool server and its tools",
        tag="tool-servers",
        query=InEnvironment,
        status=204,
        problems=[403, 404, 409],
        description=f"For admins of its environment. {_BY_REFERENCE}",
    )
    def delete(self, request: Request, server: str) -> Response:
        services.remove(self.principal, self.server(server))
        return Response(status=status.HTTP_204_NO_CONTENT)


class Discovery(_OfToolServer):
    """Asking a tool server for its tools."""

    @operation(
        "tool_servers_discover",
        "Discover a tool server's tools",
        tag="tool-servers",
        query=InEnvironment,
        answer=DiscoverySerializer,
        problems=[403, 404, 409, 503],
        description="Connects, and stores the tools that are offered now. For operators of its "
        f"environment. {_BY_REFERENCE}",
    )
    def post(self, request: Request, server: str) -> Response:
        tools = inspection.discover(self.principal, self.server(server))
        return Response(DiscoverySerializer({"items": tools}).data)


class Test(_OfToolServer):
    """Trying a tool server."""

    @operation(
        "tool_servers_test",
        "Try a tool server",
        tag="tool-servers",
        query=InEnvironment,
        answer=ToolServerTestSerializer,
        problems=[403, 404, 409, 503],
        description="Connects, lists the tools, closes; nothing is stored. A server that fails "
        f"is an answer with `ok: false`. For operators of its environment. {_BY_REFERENCE}",
    )
    def post(self, request: Request, server: str) -> Response:
        report, failure = None, None
        try:
            report = inspection.test(self.principal, self.server(server))
        except ToolServerError as error:
            failure = error
        answer = {"ok": failure is None, "report": report, "failure": failure}
        return Response(ToolServerTestSerializer(answer).data)


class Log(_OfToolServer):
    """What a stdio server complained about."""

    @operation(
        "tool_servers_log",
        "Read a stdio server's standard error",
        tag="tool-servers",
        query=LogQuery,
        answer=StderrSerializer,
        problems=[404, 409, 503],
        description=f"The last lines it wrote on any host, oldest first. {_BY_REFERENCE}",
    )
    def get(self, request: Request, server: str) -> Response:
        lines = inspection.stderr(self.server(server), lines=self.wanted.get("lines", 100))
        return Response(StderrSerializer({"items": lines}).data)


class Tools(Door):
    """The tools of your environments' servers."""

    @operation(
        "tools_list",
        "List tools",
        tag="tools",
        query=ToolQuery,
        answer=page_of(ToolSerializer),
    )
    def get(self, request: Request) -> Response:
        rows = services.visible_tools(self.principal)
        if (environment_id := self.wanted_environment()) is not None:
            rows = rows.filter(server__environment_id=environment_id)
        if "server" in self.wanted:
            with filtering("server"):
                server = services.get(
                    self.principal, self.wanted["server"], environment_id=environment_id
                )
            rows = rows.filter(server=server)
        if "available" in self.wanted:
            rows = rows.filter(available=self.wanted["available"])
        if "approved" in self.wanted:
            vouched = Q(approved_digest=F("digest"))
            rows = rows.filter(vouched if self.wanted["approved"] else ~vouched)
        return self.page(rows, ToolSerializer)


class OneTool(Door):
    """A tool."""

    @operation("tools_get", "Get a tool", tag="tools", answer=ToolSerializer, problems=[404])
    def get(self, request: Request, tool_id: int) -> Response:
        row = self.one(services.visible_tools(self.principal), pk=tool_id)
        return Response(ToolSerializer(row).data)


class ApproveTool(Door):
    """Vouching for a tool."""

    @operation(
        "tools_approve",
        "Vouch for a tool's definition",
        tag="tools",
        body=Approval,
        answer=ToolSerializer,
        problems=[403, 404, 409],
        description="From then on its annotations count, until the server changes its "
        "definition. If it changed since `digest` was read, nothing is approved. For admins of "
        "its environment.",
    )
    def post(self, request: Request, tool_id: int) -> Response:
        row = self.one(services.visible_tools(self.principal), pk=tool_id)
        row = services.approve(self.principal, row, digest=self.given["digest"])
        return Response(ToolSerializer(row).data)
