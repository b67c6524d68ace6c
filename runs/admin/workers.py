"""The web admin of workers, as they last reported themselves, and the dashboard."""

from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString

from runs import services
from runs.admin.timeline import TONES
from runs.models import Run, Worker
from runs.overview import ALIVE, overview
from runs.states import Status
from station.accounts.admin.base import StationAdmin, principal_of
from station.accounts.admin.columns import badge, display, when
from station.accounts.services import visible_environments
from station.commands.text import one_line
from station.core.principal import Principal

_SHOWN = 8

_STATES = {"live": "success", "draining": "warning", "silent": "danger"}


@admin.register(Worker)
class WorkerAdmin(StationAdmin[Worker]):
    list_display = ["name", "host", "pid", "state", "busy", "slots", "started", "seen"]
    search_fields = ["name", "host"]
    facts = ("name", "host", "pid", "state", "busy", "slots", "started", "seen")

    def rows(self, principal: Principal) -> models.QuerySet[Worker]:
        return Worker.objects.all()

    @display(description="state")
    def state(self, row: Worker) -> SafeString:
        if (timezone.now() - row.seen_at).total_seconds() > ALIVE:
            return badge("silent", _STATES)
        return badge("draining" if row.draining else "live", _STATES)

    @display(description="started", ordering="started_at")
    def started(self, row: Worker) -> SafeString | str:
        return when(row.started_at)

    @display(description="last seen", ordering="seen_at")
    def seen(self, row: Worker) -> SafeString | str:
        return when(row.seen_at)


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the first page shows: the queue, the workers, and what went wrong last."""
    principal = principal_of(request)
    seen = overview(principal)
    addresses = dict(visible_environments(principal).values_list("name", "pk"))
    return context | {
        "switch": seen.switch,
        "paused_since": when(seen.switch.since),
        "environments": [
            (addresses[state.environment], state)
            for state in seen.environments
            if state.environment in addresses
        ],
        "capped": seen.agents,
        "circuits": seen.circuits,
        "workers": seen.workers,
        "slots": sum(worker.slots for worker in seen.workers),
        "busy": sum(worker.busy for worker in seen.workers),
        "failed": [_line(run) for run in _bad(principal)],
        "recent": [_line(run) for run in services.visible(principal).order_by("-pk")[:_SHOWN]],
    }


def _bad(principal: Principal) -> models.QuerySet[Run]:
    bad = [Status.FAILED.value, Status.TIMED_OUT.value]
    rows = services.visible(principal).filter(status__in=bad)
    return rows.order_by("-pk")[:_SHOWN]


def _line(run: Run) -> dict[str, Any]:
    return {
        "run": run,
        "status": run.status.replace("_", " "),
        "tone": TONES[run.state],
        "said": one_line(run.error_message or run.output or run.input, 120),
        "age": when(run.created_at),
    }
