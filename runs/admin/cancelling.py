"""Cancelling all runs that the list shows by its filters, after a look at how many they are."""

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from agents import services as agents
from runs import services
from runs.models import Run
from station.accounts.admin.base import StationAdmin, principal_of
from station.accounts.services import id_in, visible_environments
from station.commands.text import count
from station.core.errors import StationError
from station.core.principal import Role

if TYPE_CHECKING:
    _Base = StationAdmin[Run]
else:
    _Base = object

_FILTERS = ("status", "environment", "agent", "within", "q")
_NAME = "runs_run_cancel_these"


class CancelsByFilter(_Base):
    """A page that counts the runs of the list's filters, and cancels them when it is confirmed."""

    list_before_template = "admin/runs/run/list.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.cancel_view)
        return [path("cancel/", view, name=_NAME), *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        context = dict(extra_context or {})
        if _narrows(request) and self.allows(request, Role.OPERATOR):
            context["cancel_url"] = f"{reverse(f'admin:{_NAME}')}?{request.GET.urlencode()}"
        return super().changelist_view(request, context)

    def cancel_view(self, request: HttpRequest) -> HttpResponse:
        """The count and a button; posted, the runs up to the newest that was counted end."""
        back = f"{self._list_url()}?{request.GET.urlencode()}"
        if not self.allows(request, Role.OPERATOR):
            raise PermissionDenied
        if not _narrows(request):
            self.message_user(request, "Choose a filter first.", messages.WARNING)
            return HttpResponseRedirect(self._list_url())
        try:
            shown = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(self._list_url())
        live = services.unfinished(shown)
        newest = request.POST.get("newest", "")
        if request.method == "POST" and newest.isdecimal() and len(newest) < 19:
            self._cancel(request, live.filter(pk__lte=int(newest)))
            return HttpResponseRedirect(back)
        found = live.count()
        context = {
            **self.admin_site.each_context(request),
            "title": f"Cancel {count(found, 'run')}?" if found else "Nothing to cancel",
            "opts": self.opts,
            "found": found,
            "newest": live.order_by("-pk").values_list("pk", flat=True).first(),
            "narrowed": _told(request),
            "back": back,
        }
        return TemplateResponse(request, "admin/runs/run/cancel.html", context)

    def _cancel(self, request: HttpRequest, rows: models.QuerySet[Run]) -> None:
        try:
            done = services.cancel_many(principal_of(request), rows)
        except StationError as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        said = f"{count(done, 'run')} cancelled or told to stop."
        self.message_user(request, said, messages.SUCCESS)
        if left := rows.count():
            self.message_user(
                request, f"{count(left, 'run')} left: cancel again.", messages.WARNING
            )


def _narrows(request: HttpRequest) -> bool:
    return any(request.GET.get(name) for name in _FILTERS)


def _told(request: HttpRequest) -> list[str]:
    """The filters in words."""
    principal = principal_of(request)
    rows: dict[str, models.QuerySet[Any]] = {
        "environment": visible_environments(principal),
        "agent": agents.visible(principal),
    }
    told = []
    for name in _FILTERS:
        if not (value := request.GET.get(name)):
            continue
        pk = id_in(value)
        row = rows[name].filter(pk=pk).first() if name in rows and pk is not None else None
        told.append(f"{'words' if name == 'q' else name}: {value if row is None else row.name}")
    return told
