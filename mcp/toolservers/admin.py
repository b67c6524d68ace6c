"""The web admin of tool servers and their tools."""

import json
from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.db.models import Count, F, Q
from django.http import HttpRequest, QueryDict
from django.utils.html import format_html
from django.utils.safestring import SafeString

from station.accounts.admin.base import Move, ReadOnlyInline, StationAdmin, move_url, row_url
from station.accounts.admin.columns import EnvironmentFilter, YesNoFilter, badge, display, when
from station.accounts.admin.forms import Lines, Pairs, ServiceForm, text_input
from station.accounts.errors import NameTaken
from station.commands.text import one_line
from station.core.errors import Forbidden
from station.core.principal import Principal, Role
from toolservers import inspection, services
from toolservers.models import Tool, ToolServer

_HINTS = {
    "readOnlyHint": "reads only",
    "idempotentHint": "idempotent",
    "destructiveHint": "may destroy",
    "openWorldHint": "reaches out",
}
_REFERENCES = "Refer to variables as ${var:NAME} and ${secret:NAME}."

_APPROVALS = {"approved": "success", "changed": "danger", "not approved": "warning"}

_STATES = {"enabled": "success", "disabled": "warning", "failing": "danger"}


def pretty(value: Any) -> SafeString:
    """A JSON value as a block of text."""
    return format_html(
        '<pre class="st-text">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False)
    )


# --- tools ------------------------------------------------------------------------------------


def _approve(principal: Principal, tool: Tool, carried: QueryDict) -> str:
    services.approve(principal, tool, digest=carried.get("digest") or None)
    return f"You vouch for {tool} as it is now: {tool.digest[:12]}."


class ApprovedFilter(YesNoFilter):
    title = "approval"
    parameter_name = "approved"
    condition = Q(approved_digest=F("digest"))
    words = ("approved", "not approved")


class AvailableFilter(YesNoFilter):
    title = "offered"
    parameter_name = "available"
    condition = Q(available=True)
    words = ("offered now", "no longer")


class ToolEnvironmentFilter(EnvironmentFilter):
    column = "server__environment_id"


class ToolColumns:
    """What lists and pages say of a tool."""

    @display(description="approval")
    def approval(self, row: Tool) -> SafeString:
        if row.approved:
            return badge("approved", _APPROVALS)
        return badge("changed" if row.approved_digest else "not approved", _APPROVALS)

    @display(description="offered", boolean=True, ordering="available")
    def offered(self, row: Tool) -> bool:
        return row.available

    @display(description="says it")
    def hints(self, row: Tool) -> str:
        claimed = [word for hint, word in _HINTS.items() if row.annotations.get(hint) is True]
        return ", ".join(claimed) or "-"

    @display(description="digest")
    def short_digest(self, row: Tool) -> SafeString:
        return format_html(
            '<code class="st-code" title="{}">{}</code>', row.digest, row.digest[:12]
        )

    @display(description="description")
    def about(self, row: Tool) -> str:
        return one_line(row.description, 120) or "-"


@admin.register(Tool)
class ToolAdmin(ToolColumns, StationAdmin[Tool]):
    moves = {
        "approve": Move(
            label="Approve this definition",
            icon="verified_user",
            need=Role.ADMIN,
            do=_approve,
            when=lambda tool: not tool.approved,
            carries=lambda tool: {"digest": tool.digest},
            listed=False,  # nobody vouches for what they did not look at
        )
    }
    list_display = ["name", "server", "environment", "hints", "approval", "offered", "about"]
    list_filter = [ToolEnvironmentFilter, ApprovedFilter, AvailableFilter]
    filterable = ("server",)
    search_fields = ["name", "description", "server__name"]
    facts = ("name", "server", "environment", "whole", "hints", "annotated", "schema", "offered",
             "approval", "full_digest", "voucher")  # fmt: skip

    def rows(self, principal: Principal) -> models.QuerySet[Tool]:
        return services.visible_tools(principal)

    def environment_id_of(self, row: Tool) -> int:
        return row.server.environment_id

    def after_move(self, request: HttpRequest, row: Tool) -> str:
        return row_url(row.server if request.GET.get("back") == "server" else row)

    @display(description="environment")
    def environment(self, row: Tool) -> str:
        return row.server.environment.name

    @display(description="description")
    def whole(self, row: Tool) -> SafeString:
        return format_html('<pre class="st-text">{}</pre>', row.description or "-")

    @display(description="input schema")
    def schema(self, row: Tool) -> SafeString:
        return pretty(row.input_schema)

    @display(description="annotations")
    def annotated(self, row: Tool) -> SafeString:
        return pretty(row.annotations)

    @display(description="digest of this definition")
    def full_digest(self, row: Tool) -> SafeString:
        return format_html('<code class="st-code">{}</code>', row.digest)

    @display(description="last approved")
    def voucher(self, row: Tool) -> SafeString | str:
        if not row.approved_digest:
            return "never"
        return format_html(
            'by {}: <code class="st-code">{}</code>', row.approved_by, row.approved_digest
        )


class ToolInline(ToolColumns, ReadOnlyInline):
    model = Tool
    fields = readonly_fields = (
        *("its_page", "hints", "offered"),
        *("approval", "short_digest", "vouch"),
    )
    verbose_name_plural = "tools"
    hide_title = True

    @display(description="name")
    def its_page(self, row: Tool) -> SafeString:
        return format_html('<a class="st-link" href="{}">{}</a>', row_url(row), row.name)

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        principal_may = self.admin_site._registry[Tool]
        assert isinstance(principal_may, ToolAdmin)
        tool = Tool(server=obj)
        self._may_vouch = obj is not None and principal_may.allows(request, Role.ADMIN, tool)
        return super().get_formset(request, obj, **kwargs)

    @display(description="")
    def vouch(self, row: Tool) -> SafeString | str:
        """A button of the surrounding form that posts the digest that is shown beside it."""
        if row.approved:
            return f"by {row.approved_by}"
        if not self._may_vouch:
            return ""
        return format_html(
            '<button type="submit" class="st-button" name="digest" value="{}" formnovalidate '
            'formaction="{}?back=server">Approve</button>',
            row.digest,
            move_url(row, "approve"),
        )


# --- tool servers -----------------------------------------------------------------------------


def _enabled(enabled: bool) -> Move[ToolServer]:
    def do(principal: Principal, row: ToolServer, _: QueryDict) -> str:
        services.enable(principal, row, enabled=enabled)
        return f"Tool server {row} is {'enabled' if enabled else 'disabled'}."

    return Move(
        label="Enable" if enabled else "Disable",
        icon="toggle_on" if enabled else "toggle_off",
        need=Role.OPERATOR,
        do=do,
        when=lambda row: row.enabled is not enabled,
    )


def _discover(principal: Principal, row: ToolServer, _: QueryDict) -> str:
    found = inspection.discover(principal, row).count()
    return f"{row} answered: {found} tool{'' if found == 1 else 's'}."


class NewToolServerForm(ServiceForm):
    args = Lines(label="Arguments", help_text=f"One a line. {_REFERENCES}")
    env = Pairs(
        separator="=",
        label="Environment variables",
        help_text=f"NAME=value, one a line. {_REFERENCES}",
    )
    headers = Pairs(
        separator=": ", label="Headers", help_text=f"Name: value, one a line. {_REFERENCES}"
    )
    command = forms.CharField(
        required=False, widget=text_input(), help_text="For stdio: one of mcp.stdio_commands."
    )
    url = forms.CharField(
        required=False,
        label="URL",
        widget=text_input(placeholder="https://tools.example.org/mcp"),
        help_text=f"For HTTP and SSE. {_REFERENCES}",
    )
    blamed = {NameTaken: "name", Forbidden: "transport"}


class EnabledFilter(YesNoFilter):
    title = "state"
    parameter_name = "enabled"
    condition = Q(enabled=True)
    words = ("enabled", "disabled")


@admin.register(ToolServer)
class ToolServerAdmin(StationAdmin[ToolServer]):
    form = NewToolServerForm
    may_add = may_delete = Role.ADMIN
    moves = {
        "discover": Move(
            label="Discover tools",
            icon="travel_explore",
            need=Role.OPERATOR,
            do=_discover,
            when=lambda row: row.enabled,
            listed=False,  # each may take a minute
        ),
        "enable": _enabled(True),
        "disable": _enabled(False),
    }
    inlines = [ToolInline]
    list_display = [
        "name",
        "environment",
        "transport",
        "where",
        "state",
        "tool_count",
        "discovered",
    ]
    list_filter = [EnvironmentFilter, EnabledFilter]
    filterable = ("transport",)
    search_fields = ["name", "url", "command"]
    asked = ["environment", "name", "transport", "command", "args", "env", "url", "headers"]
    facts = [
        *("environment", "name", "transport", "definition"),
        *("state", "discovered", "failure", "left_out_tools"),
    ]

    def rows(self, principal: Principal) -> models.QuerySet[ToolServer]:
        offered = Count("tools", filter=Q(tools__available=True))
        return services.visible(principal).annotate(offered=offered)

    def get_inlines(self, request: HttpRequest, obj: ToolServer | None) -> list[Any]:
        return [] if obj is None else [ToolInline]

    def store(
        self, principal: Principal, row: ToolServer, given: Mapping[str, Any], *, change: bool
    ) -> ToolServer:
        return services.add(
            principal,
            environment_id=given["environment"].pk,
            **{name: given[name] for name in self.asked if name != "environment"},
        )

    def remove(self, principal: Principal, row: ToolServer) -> None:
        services.remove(principal, row)

    @display(description="where")
    def where(self, row: ToolServer) -> str:
        return one_line(row.command or row.url, 60)

    @display(description="state")
    def state(self, row: ToolServer) -> SafeString:
        if not row.enabled:
            return badge("disabled", _STATES)
        return badge("failing" if row.last_error else "enabled", _STATES)

    @display(description="tools", ordering="offered")
    def tool_count(self, row: Any) -> int:
        return int(row.offered)

    @display(description="discovered", ordering="discovered_at")
    def discovered(self, row: ToolServer) -> SafeString | str:
        return "never" if row.discovered_at is None else when(row.discovered_at)

    @display(description="last error")
    def failure(self, row: ToolServer) -> SafeString | str:
        if not row.last_error:
            return "-"
        return format_html('<pre class="st-text st-bad">{}</pre>', row.last_error)

    @display(description="tools left out")
    def left_out_tools(self, row: ToolServer) -> SafeString | str:
        if not row.left_out:
            return "-"
        return format_html('<pre class="st-text st-bad">{}</pre>', "\n".join(row.left_out))

    @display(description="definition")
    def definition(self, row: ToolServer) -> SafeString:
        stdio = {"command": row.command, "args": row.args, "env": row.env}
        http = {"url": row.url, "headers": row.headers}
        return pretty(stdio if row.transport == ToolServer.Transport.STDIO else http)
