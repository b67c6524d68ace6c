"""The web admin of journal entries: those of one run, each as it is stored."""

from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from runs.admin import timeline
from runs.models import RunEvent
from station.accounts.admin.base import StationAdmin, row_url
from station.accounts.admin.columns import DropdownFilter, display, when
from station.commands.text import one_line, to_json
from station.core.principal import Principal


class RunFilter(DropdownFilter):
    """The run whose journal is listed; without one the list is empty, and fast."""

    title = "run"
    parameter_name = "run"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = request.GET.get("run", "")
        return [(chosen, f"run {chosen}")] if chosen.isdecimal() else []

    def has_output(self) -> bool:
        return True

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[RunEvent]
    ) -> models.QuerySet[RunEvent]:
        chosen = self.value() or ""
        if not chosen.isdecimal() or len(chosen) >= 19:
            return queryset.none()
        return queryset.filter(run_id=int(chosen))


@admin.register(RunEvent)
class RunEventAdmin(StationAdmin[RunEvent]):
    list_display = ["seq", "kind", "summary", "moment"]
    list_filter = [RunFilter]
    list_per_page = 200
    show_full_result_count = False
    sortable_by = ("seq",)
    facts = ("of", "seq", "kind", "moment", "stored")

    def rows(self, principal: Principal) -> models.QuerySet[RunEvent]:
        rows = RunEvent.objects.select_related("run")
        if principal.platform_admin:
            return rows
        return rows.filter(run__environment_id__in=principal.roles)

    def environment_id_of(self, row: RunEvent) -> int:
        return row.run.environment_id

    @display(description="run")
    def of(self, row: RunEvent) -> SafeString:
        return format_html('<a class="st-link" href="{}">{}</a>', row_url(row.run), row.run)

    @display(description="payload")
    def summary(self, row: RunEvent) -> str:
        return one_line(to_json(row.payload), 160)

    @display(description="at")
    def moment(self, row: RunEvent) -> SafeString | str:
        return when(row.at)

    @display(description="payload")
    def stored(self, row: RunEvent) -> SafeString:
        return format_html('<pre class="st-text">{}</pre>', timeline.pretty(row.payload))
