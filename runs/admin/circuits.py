"""The web admin of model providers that failed of late."""

from django.contrib import admin
from django.db import models
from django.utils.safestring import SafeString

from runs.models import Circuit
from station.accounts.admin.base import StationAdmin
from station.accounts.admin.columns import badge, display, when
from station.commands.text import one_line
from station.core.principal import Principal

_STATES = {"open": "danger", "counting": "warning"}


@admin.register(Circuit)
class CircuitAdmin(StationAdmin[Circuit]):
    list_display = ["provider", "state", "failures", "failed", "again", "said"]
    search_fields = ["provider"]
    facts = ("provider", "state", "failures", "failed", "again", "pauses", "problem")

    def rows(self, principal: Principal) -> models.QuerySet[Circuit]:
        return Circuit.objects.all()

    @display(description="state")
    def state(self, row: Circuit) -> SafeString:
        return badge("counting" if row.retry_at is None else "open", _STATES)

    @display(description="last failure", ordering="failed_at")
    def failed(self, row: Circuit) -> SafeString | str:
        return when(row.failed_at)

    @display(description="asked again", ordering="retry_at")
    def again(self, row: Circuit) -> str:
        return "-" if row.retry_at is None else f"{row.retry_at:%H:%M:%S} UTC"

    @display(description="problem")
    def said(self, row: Circuit) -> str:
        return one_line(row.problem, 120)
