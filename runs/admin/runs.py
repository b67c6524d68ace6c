"""The web admin of runs: looked at, cancelled, retried and decided, never edited."""

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from agents import services as agents
from runs import queue, services
from runs.admin import deciding, timeline
from runs.admin.cancelling import CancelsByFilter
from runs.models import Run
from runs.states import TERMINAL, Status
from station.accounts.admin.base import Move, StationAdmin, move_url, principal_of, row_url
from station.accounts.admin.columns import (
    ChoiceFilter,
    DropdownFilter,
    EnvironmentFilter,
    badge,
    display,
    when,
)
from station.accounts.admin.forms import ONCE, key_of_the_page
from station.commands.text import dollars, duration, one_line
from station.core.principal import Principal, Role

if TYPE_CHECKING:
    from django.core.paginator import Paginator as InfinitePaginator
else:
    from unfold.paginator import InfinitePaginator

EVENTS_A_PAGE = 200
_MOST_AGENTS = 500
_LISTED = ("environment__name", "agent__name", "status", "submitted_by", "created_at",
           "started_at", "finished_at", "cancel_requested_at", "steps", "input_tokens",
           "output_tokens", "cost_usd")  # fmt: skip
_SPANS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7),
          "month": timedelta(days=30)}  # fmt: skip

_LABELS = {status.value.replace("_", " "): tone for status, tone in timeline.TONES.items()}
_LABELS["stopping"] = "warning"


class StatusFilter(DropdownFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        ended = [("live", "not ended"), ("bad", "failed or timed out")]
        return [(status.value, status.value.replace("_", " ")) for status in Status] + ended

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[Run]
    ) -> models.QuerySet[Run]:
        match self.value():
            case None | "":
                return queryset
            case "live":
                wanted = [status.value for status in Status if status not in TERMINAL]
            case "bad":
                wanted = [Status.FAILED.value, Status.TIMED_OUT.value]
            case chosen:
                wanted = [status.value for status in Status if status == chosen]
        return queryset.filter(status__in=wanted)


class AgentFilter(ChoiceFilter):
    title = "agent"
    parameter_name = "agent"
    column = "agent_id"

    def options(self, principal: Principal) -> Iterable[tuple[str, str]]:
        rows = agents.visible(principal).order_by("name", "environment__name")
        for pk, name, where in rows.values_list("pk", "name", "environment__name")[:_MOST_AGENTS]:
            yield str(pk), f"{name} ({where})"


class SubmittedFilter(DropdownFilter):
    title = "time"
    parameter_name = "within"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(span, f"the last {span}") for span in _SPANS]

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[Run]
    ) -> models.QuerySet[Run]:
        span = _SPANS.get(self.value() or "")
        return queryset if span is None else queryset.filter(created_at__gte=timezone.now() - span)


def _cancel(principal: Principal, row: Run, _: QueryDict) -> str:
    run = services.cancel(principal, row)
    return f"Run {run.pk} is cancelled." if run.is_terminal else f"Run {run.pk} is told to stop."


def _retry(principal: Principal, row: Run, carried: QueryDict) -> str:
    key = carried.get(ONCE)
    run = services.retry(principal, row, idempotency_key=f"admin:{key}:{row.pk}" if key else None)
    return f"Run {run.pk} is {run.status}: a retry of run {row.pk}."


@admin.register(Run)
class RunAdmin(CancelsByFilter, StationAdmin[Run]):
    moves = {
        "cancel": Move(
            label="Cancel",
            icon="cancel",
            need=Role.OPERATOR,
            do=_cancel,
            when=lambda run: not run.is_terminal and run.cancel_requested_at is None,
            danger=True,
        ),
        "retry": Move(
            label="Retry",
            icon="replay",
            need=Role.OPERATOR,
            do=_retry,
            when=lambda run: run.is_terminal,
            carries=lambda run: {ONCE: key_of_the_page()},
        ),
        # Its form is on the page, where the calls are.
        "decide": Move(
            label="Decide",
            icon="how_to_vote",
            need=Role.OPERATOR,
            do=deciding.decide,
            when=lambda run: False,
            listed=False,
        ),
    }
    change_form_template = "admin/runs/run/page.html"
    paginator = InfinitePaginator
    list_disable_select_all = True
    show_full_result_count = False
    list_display = ["number", "status_badge", "agent_name", "environment_name", "submitted_by",
                    "age", "took", "steps", "tokens", "cost"]  # fmt: skip
    list_display_links = ["number"]
    list_filter = [StatusFilter, EnvironmentFilter, AgentFilter, SubmittedFilter]
    sortable_by = ("number",)
    search_fields = ["pk"]
    search_help_text = "A run's number, or words of its input"

    def rows(self, principal: Principal) -> models.QuerySet[Run]:
        return services.visible(principal)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Run]:
        rows = super().get_queryset(request)
        match = request.resolver_match
        if match is not None and (match.url_name or "").endswith("_changelist"):
            rows = rows.select_related(None).select_related("agent", "environment").only(*_LISTED)
        return rows

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Run], search_term: str
    ) -> tuple[models.QuerySet[Run], bool]:
        """By number where the term is one, else by words of the input."""
        term = search_term.strip()
        if term.isdecimal() and len(term) < 19:
            return queryset.filter(pk=int(term)), False
        return (queryset.filter(input__icontains=term) if term else queryset), False

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if request.method == "POST":  # nothing on the page posts to it
            return HttpResponseRedirect(request.path)
        return super().change_view(request, object_id, form_url, extra_context)

    def render_change_form(  # noqa: PLR0917 - as Django has it
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Run | None = None,
    ) -> Any:
        assert obj is not None
        pages = max(-(-obj.last_seq // EVENTS_A_PAGE), 1)
        asked = request.GET.get("page", "")
        page = min(max(int(asked), 1), pages) if asked.isdecimal() and len(asked) < 10 else 1
        first = (page - 1) * EVENTS_A_PAGE
        events = services.events(principal_of(request), obj.pk).filter(
            seq__gt=first, seq__lte=first + EVENTS_A_PAGE
        )
        context |= {
            "title": f"Run {obj.pk}",
            "subtitle": None,
            "run": obj,
            "status": obj.status.replace("_", " "),
            "tone": timeline.TONES[obj.state],
            "why": queue.why_queued(obj) if obj.state is Status.QUEUED else "",
            "facts": _facts(obj),
            "questions": deciding.questions(obj),
            "decide_url": (
                move_url(obj, "decide") if self.allows(request, Role.OPERATOR, obj) else ""
            ),
            "input": timeline.text("", obj.input),
            "data": timeline.text("", timeline.pretty(obj.data)) if obj.data else None,
            "output": timeline.text("", obj.output) if obj.output else None,
            "output_data": (
                None
                if obj.output_data is None
                else timeline.text("", timeline.pretty(obj.output_data), folded=True)
            ),
            "steps": timeline.steps(events, obj.created_at),
            "page": page,
            "pages": pages,
        }
        return super().render_change_form(request, context, add, change, form_url, obj)

    @display(description="run", ordering="pk")
    def number(self, row: Run) -> str:
        return str(row.pk)

    @display(description="status")
    def status_badge(self, row: Run) -> SafeString:
        if row.state is Status.RUNNING and row.cancel_requested_at is not None:
            return badge("stopping", _LABELS)
        return badge(row.status.replace("_", " "), _LABELS)

    @display(description="agent")
    def agent_name(self, row: Run) -> str:
        return row.agent.name

    @display(description="environment")
    def environment_name(self, row: Run) -> str:
        return row.environment.name

    @display(description="age")
    def age(self, row: Run) -> SafeString | str:
        return when(row.created_at)

    @display(description="duration")
    def took(self, row: Run) -> str:
        return _took(row)

    @display(description="tokens in / out")
    def tokens(self, row: Run) -> SafeString:
        return format_html(
            '<span class="st-nowrap">{} / {}</span>',
            f"{row.input_tokens:,}",
            f"{row.output_tokens:,}",
        )

    @display(description="cost")
    def cost(self, row: Run) -> str:
        return dollars(row.cost_usd)


def _took(run: Run) -> str:
    """How long it took from its first start to its end, or takes so far."""
    if run.started_at is None:
        return "-"
    return duration(((run.finished_at or timezone.now()) - run.started_at).total_seconds())


def _facts(run: Run) -> list[tuple[str, Any]]:
    """What the head of a run's page says, name by name."""
    facts: list[tuple[str, Any]] = [
        ("Submitted", format_html("{} by {}", when(run.created_at), run.submitted_by)),
        ("Started", when(run.started_at)),
        ("Ended", when(run.finished_at)),
        ("Duration", _took(run)),
        ("Steps", run.steps),
        ("Tokens", f"{run.input_tokens:,} in, {run.output_tokens:,} out"),
        ("Cost", dollars(run.cost_usd)),
        ("Timeout", duration(run.timeout)),
        ("Priority", run.priority),
    ]
    if run.retry_of_id is not None:
        origin = Run(pk=run.retry_of_id)
        link = format_html('<a class="st-link" href="{}">run {}</a>', row_url(origin), origin.pk)
        facts.append(("Retry of", link))
    if run.concurrency_key:
        facts.append(("Concurrency key", one_line(run.concurrency_key, 60)))
    if run.worker:
        facts.append(("Worker", one_line(run.worker, 60)))
    if run.crashes:
        facts.append(("Crashed workers", run.crashes))
    if run.retries:
        facts.append(("Retries", run.retries))
    if run.queue_deadline is not None and run.state is Status.QUEUED:
        facts.append(("Queue deadline", when(run.queue_deadline)))
    if run.wait_reason:
        facts.append(("Waits for", run.wait_reason))
    if run.request_id:
        facts.append(("Request", run.request_id))
    return facts
