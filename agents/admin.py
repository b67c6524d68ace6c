"""The web admin of agents and their versions."""

import json
from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.db.models import Q
from django.http import HttpRequest, QueryDict
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from agents import changes, services
from agents.models import Agent, AgentVersion
from agents.services import Definition
from station.accounts.admin.base import Move, ReadOnlyInline, StationAdmin, row_url
from station.accounts.admin.columns import EnvironmentFilter, YesNoFilter, badge, display, when
from station.accounts.admin.forms import Lines, ServiceForm, Text, text_area, text_input
from station.accounts.errors import NameTaken
from station.commands.text import one_line
from station.config.quantities import format_duration, parse_duration
from station.core.principal import Principal, Role
from station.core.storable import is_storable

_DEFINED = ["prompt", "model", "fallback_models", "tools", "max_steps", "timeout",
            "parameters", "output_schema", "retry"]  # fmt: skip

_CAPS = ("max_running", "concurrency_key", "max_running_per_key")

_STATES = {"enabled": "success", "disabled": "danger", "paused": "warning"}


class Duration(forms.CharField):
    """Seconds, written like ``90s``, ``5m`` or ``1h``; empty is ``None``."""

    def prepare_value(self, value: Any) -> Any:
        return format_duration(value) if isinstance(value, int | float) else value

    def clean(self, value: Any) -> float | None:
        text = super().clean(value)
        if not text:
            return None
        try:
            return parse_duration(text)
        except ValueError:
            raise forms.ValidationError(f"{text!r} is no duration; write it like 300s.") from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.clean(data) != initial)
        except forms.ValidationError:
            return True


class JsonObject(forms.JSONField):
    """A JSON object; empty is ``None``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, widget=text_area(6, spellcheck="false"), **kwargs)

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, dict):
            text = json.dumps(value, indent=2, ensure_ascii=False) if value else ""
            return text if is_storable(text) else json.dumps(value, indent=2)
        return super().prepare_value(value) if value is not None else ""

    def clean(self, value: Any) -> Any:
        found = super().clean(value)
        if found is not None and not isinstance(found, dict):
            raise forms.ValidationError("A JSON object is needed: {…}.")
        return found


class AgentForm(ServiceForm):
    """An agent and the definition of its current version."""

    prompt = Text(widget=text_area(12))
    model = forms.CharField(
        required=False, widget=text_input(), help_text="Empty: the configured model."
    )
    fallback_models = Lines(help_text="Asked in this order when the model fails. One a line.")
    tools = Lines(help_text="The tools it may use, one a line: server/tool or server/*.")
    max_steps = forms.IntegerField(initial=25, widget=text_input(type="number", min=1, max=1000))
    timeout = Duration(
        required=False,
        widget=text_input(placeholder="300s"),
        help_text="Of running, like 90s or 1h. Empty: the configured one.",
    )
    parameters = JsonObject(
        label="Model parameters", help_text='For the model, like {"temperature": 0.2}.'
    )
    output_schema = JsonObject(
        help_text="A JSON Schema that the answer must match. Empty: any text will do."
    )
    retry = JsonObject(
        label="Retry policy",
        help_text="When a failed run goes on, like "
        '{"on": ["model_unavailable"], "at_most": 3, "backoff": "10s", "longest": "5m"}. '
        "Empty: a failure is final.",
    )
    blamed = {NameTaken: "name"}
    merges = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        agent = kwargs.get("instance")
        if agent is not None and agent.current_version is not None:
            version = agent.current_version
            present = {name: getattr(version, name) for name in _DEFINED}
            kwargs["initial"] = {**present, **(kwargs.get("initial") or {})}
        super().__init__(*args, **kwargs)


def _defined(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a form says of the definition."""
    values = {name: given[name] for name in _DEFINED if name in given}
    return values | ({"parameters": given["parameters"] or {}} if "parameters" in given else {})


def _switch(label: str, icon: str, said: str, **wanted: bool) -> Move[Agent]:
    ((column, value),) = wanted.items()

    def do(principal: Principal, row: Agent, _: QueryDict) -> str:
        changes.update(principal, row, enabled=wanted.get("enabled"), paused=wanted.get("paused"))
        return f"Agent {row} {said}."

    return Move(
        label=label,
        icon=icon,
        need=Role.OPERATOR,
        do=do,
        when=lambda row: getattr(row, column) is not value,
    )


class EnabledFilter(YesNoFilter):
    title = "enabled"
    parameter_name = "enabled"
    condition = Q(enabled=True)
    words = ("enabled", "disabled")


class PausedFilter(YesNoFilter):
    title = "paused"
    parameter_name = "paused"
    condition = Q(paused=True)
    words = ("paused", "not paused")


class VersionInline(ReadOnlyInline):
    model = AgentVersion
    fk_name = "agent"
    fields = readonly_fields = (
        *("version", "summary", "model_name"),
        *("tool_count", "created_by", "created"),
    )
    verbose_name_plural = "versions"
    hide_title = True
    per_page = 20

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[AgentVersion]:
        return AgentVersion.objects.select_related("agent").order_by("-number")

    @display(description="version")
    def version(self, row: AgentVersion) -> SafeString:
        return format_html('<a class="st-link" href="{}">v{}</a>', row_url(row), row.number)

    @display(description="prompt")
    def summary(self, row: AgentVersion) -> str:
        return one_line(row.prompt, 100)

    @display(description="model")
    def model_name(self, row: AgentVersion) -> str:
        return row.model or "configured"

    @display(description="grants")
    def tool_count(self, row: AgentVersion) -> int:
        return len(row.tools)

    @display(description="created")
    def created(self, row: AgentVersion) -> SafeString | str:
        return when(row.created_at)


@admin.register(Agent)
class AgentAdmin(StationAdmin[Agent]):
    form = page_form = AgentForm
    may_add = may_change = Role.OPERATOR
    moves = {
        "enable": _switch("Enable", "toggle_on", "is enabled", enabled=True),
        "disable": _switch("Disable", "toggle_off", "accepts no runs", enabled=False),
        "pause": _switch("Pause", "pause", "is paused: it accepts runs, none start", paused=True),
        "resume": _switch("Resume", "play_arrow", "starts runs again", paused=False),
    }
    list_display = ["name", "environment", "state", "about", "version", "model_name", "its_runs"]
    list_filter = [EnvironmentFilter, EnabledFilter, PausedFilter]
    search_fields = ["name", "description"]
    asked = ("environment", "name", "description")
    facts = ("environment", "name", "state", "its_runs")
    changed = readable = ("description", *_CAPS)

    def rows(self, principal: Principal) -> models.QuerySet[Agent]:
        return services.visible(principal)

    def get_fieldsets(self, request: HttpRequest, obj: Agent | None = None) -> Any:
        head: tuple[Any, ...] = (None, {"fields": self.get_fields(request, obj)})
        if obj is not None and not self.has_change_permission(request, obj):
            return [head]
        about = "A changed definition becomes a new version; runs keep the one they began with."
        return [head, ("Definition", {"fields": _DEFINED, "description": about if obj else ""})]

    def get_inlines(self, request: HttpRequest, obj: Agent | None) -> list[Any]:
        return [] if obj is None else [VersionInline]

    def store(
        self, principal: Principal, row: Agent, given: Mapping[str, Any], *, change: bool
    ) -> Agent:
        if not change:
            return services.create(
                principal,
                environment_id=given["environment"].pk,
                name=given["name"],
                description=given["description"],
                definition=Definition(**_defined(given)),
            )
        if defined := _defined(given):
            services.revise(principal, row, **defined)
        beside = {name: given[name] for name in ("description", *_CAPS) if name in given}
        return changes.update(principal, row, **beside)

    @display(description="state")
    def state(self, row: Agent) -> SafeString:
        if not row.enabled:
            return badge("disabled", _STATES)
        return badge("paused" if row.paused else "enabled", _STATES)

    @display(description="description")
    def about(self, row: Agent) -> str:
        return one_line(row.description, 80) or "-"

    @display(description="version")
    def version(self, row: Agent) -> str:
        return "-" if row.current_version is None else f"v{row.current_version.number}"

    @display(description="model")
    def model_name(self, row: Agent) -> str:
        return (row.current_version.model if row.current_version else "") or "configured"

    @display(description="runs")
    def its_runs(self, row: Agent) -> SafeString:
        address = reverse("admin:runs_run_changelist")
        return format_html('<a class="st-link" href="{}?agent={}">see them</a>', address, row.pk)


class VersionEnvironmentFilter(EnvironmentFilter):
    column = "agent__environment_id"


@admin.register(AgentVersion)
class AgentVersionAdmin(StationAdmin[AgentVersion]):
    list_display = ["__str__", "environment", "summary", "model_name", "created_by", "created"]
    list_filter = [
        type("_ByEnvironment", (EnvironmentFilter,), {"column": "agent__environment_id"})
    ]
    filterable = ("agent",)
    search_fields = ["agent__name", "created_by"]
    ordering = ["-pk"]
    facts = ("agent", "environment", "number", "prompt_text", "model_name", "fallback_models",
              "tools", "max_steps", "timeout", "parameters", "output_schema", "retry",
              "created_by", "created")  # fmt: skip

    def rows(self, principal: Principal) -> models.QuerySet[AgentVersion]:
        rows = AgentVersion.objects.select_related("agent__environment")
        return rows.filter(agent__in=services.visible(principal))

    def environment_id_of(self, row: AgentVersion) -> int:
        return row.agent.environment_id

    @display(description="environment")
    def environment(self, row: AgentVersion) -> str:
        return row.agent.environment.name

    @display(description="prompt")
    def prompt_text(self, row: AgentVersion) -> SafeString:
        return format_html('<pre class="st-text">{}</pre>', row.prompt)

    @display(description="prompt")
    def summary(self, row: AgentVersion) -> str:
        return one_line(row.prompt, 100)

    @display(description="model")
    def model_name(self, row: AgentVersion) -> str:
        return row.model or "configured"

    @display(description="created", ordering="pk")
    def created(self, row: AgentVersion) -> SafeString | str:
        return when(row.created_at)
