"""Runs: submit, list, look at, cancel, retry, decide."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.status import HTTP_202_ACCEPTED

from agents import services as agents
from agents.api.views import BY_REFERENCE, OfAgent
from runs import decisions, services
from runs.api.serializers import (
    CancelledSerializer,
    DecisionsShape,
    EventPageSerializer,
    EventQuery,
    NewRun,
    RunDetailSerializer,
    RunFilters,
    RunQuery,
    RunSerializer,
)
from runs.bus import event_json
from runs.decisions import Decision, Verdict
from runs.entries import Event, Kind
from runs.filters import Filters
from runs.models import Run
from station.accounts.api.door import Door, filtering, operation, page_of
from station.accounts.api.shapes import InEnvironment
from station.accounts.services import environment
from station.core.errors import InvalidInput, Unavailable
from station.core.principal import Principal
from station.observe.context import request_id

_EVENTS = 100
_LISTED = (
    *("id", "status", "priority", "submitted_by", "wait_reason"),
    *("created_at", "started_at", "finished_at", "cancel_requested_at"),
    *("steps", "input_tokens", "output_tokens", "cost_usd"),
    *("error_code", "error_message", "error_reference"),
    *("environment__name", "agent__name", "version__number"),
)
_KEY = "Idempotency-Key"

IDEMPOTENCY_KEY = OpenApiParameter(
    _KEY,
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="1 to 255 characters of your choice. Within 24 hours the same request "
    "with the same key is one run; a different request with it is refused (422).",
)


class Submissions(OfAgent):
    """Asking an agent to do something."""

    @operation(
        "runs_submit",
        "Submit a run",
        tag="runs",
        query=InEnvironment,
        body=NewRun,
        status=202,
        answer=RunDetailSerializer,
        problems=[403, 404, 409, 503],
        parameters=[IDEMPOTENCY_KEY],
        examples=[
            OpenApiExample("A task", value={"input": "How full are this machine's disks?"}),
            OpenApiExample(
                "A task with particulars and limits",
                value={
                    "input": "Summarise the incident.",
                    "data": {"incident": "INC-4711"},
                    "priority": 10,
                    "timeout": "300s",
                    "queue_timeout": "1h",
                },
            ),
        ],
        description="The run is stored, and carried out by a worker: follow it at `Location`, or "
        f"by its stream. For operators of the agent's environment. {BY_REFERENCE}",
    )
    def post(self, request: Request, agent: str) -> Response:
        found = self.agent(agent)
        given = {"input": "", "data": {}} | self.given
        with _key_in_header():
            run = services.submit(
                self.principal,
                found,
                services.Request(**given),
                idempotency_key=request.headers.get(_KEY),
                request_id=request_id(),
            )
        return _accepted(self.principal, run)


@contextmanager
def _key_in_header() -> Iterator[None]:
    """Within, what is wrong with the idempotency key is wrong with the header.

    Raises:
        InvalidInput: naming the header.
    """
    try:
        yield
    except InvalidInput as error:
        raise (error.at(_KEY) if error.field == "idempotency_key" else error) from None


def _accepted(principal: Principal, run: Run) -> Response:
    """202 with the submitted run and its address."""
    run = services.get(principal, run.pk)
    location = {"Location": reverse("run", kwargs={"run": run.pk})}
    return Response(RunDetailSerializer(run).data, status=HTTP_202_ACCEPTED, headers=location)


class Runs(Door):
    """The runs of your environments."""

    @operation(
        "runs_list",
        "List runs",
        tag="runs",
        query=RunQuery,
        answer=page_of(RunSerializer),
    )
    def get(self, request: Request) -> Response:
        rows = services.visible(self.principal).only(*_LISTED)
        return self.page(_filters(self.principal, self.wanted).narrow(rows), RunSerializer)


def _filters(principal: Principal, wanted: Mapping[str, Any]) -> Filters:
    """What :class:`RunFilters` wants. Raises :class:`InvalidInput` for an unknown name."""
    environment_id = agent_id = None
    if "environment" in wanted:
        with filtering("environment"):
            environment_id = environment(principal, wanted["environment"]).pk
    if "agent" in wanted:
        with filtering("agent"):
            agent_id = agents.get(principal, wanted["agent"], environment_id=environment_id).pk
    return Filters(
        environment_id=environment_id,
        agent_id=agent_id,
        statuses=wanted.get("status", ()),
        created_after=wanted.get("created_after"),
        created_before=wanted.get("created_before"),
        submitted_by=wanted.get("submitted_by"),
    )


class OneRun(Door):
    """A run."""

    @operation(
        "runs_get",
        "Get a run",
        tag="runs",
        answer=RunDetailSerializer,
        problems=[404],
        description="Of a queued run it says why it is queued, of one that waits in doubt which "
        "calls are to be decided.",
    )
    def get(self, request: Request, run: str) -> Response:
        return Response(RunDetailSerializer(services.get(self.principal, run)).data)


class Cancellation(Door):
    """Ending a run."""

    @operation(
        "runs_cancel",
        "Cancel a run",
        tag="runs",
        answer=RunDetailSerializer,
        problems=[403, 404, 409],
        description="A queued or waiting run ends now. A running one is told to stop: it has "
        "`cancel_requested_at` until it did. Asking again meanwhile is no error; a run that has "
        "ended is one (409, `run_finished`). For operators of its environment.",
    )
    def post(self, request: Request, run: str) -> Response:
        cancelled = services.cancel(self.principal, services.get(self.principal, run))
        return Response(RunDetailSerializer(cancelled).data)


class BulkCancellation(Door):
    """Ending many runs."""

    @operation(
        "runs_cancel_many",
        "Cancel runs by filter",
        tag="runs",
        body=RunFilters,
        answer=CancelledSerializer,
        problems=[403],
        examples=[
            OpenApiExample(
                "What waits in an environment",
                value={"environment": "demo", "status": "queued,waiting"},
                request_only=True,
            )
        ],
        description="The filters are those of the list, and one of them is needed. What has ended "
        "or was told to stop is left out. At most 10000 runs, the oldest, are cancelled by one "
        "request: repeat it until it answers 0. For operators of every environment concerned; "
        "otherwise nothing is cancelled.",
    )
    def post(self, request: Request) -> Response:
        if not self.given:
            raise InvalidInput("body", "names no filter", fix="Say which runs to cancel.")
        wanted = _filters(self.principal, self.given)
        rows = wanted.narrow(services.visible(self.principal))
        return Response({"cancelled": services.cancel_many(self.principal, rows)})


class Retry(Door):
    """Doing again what a run was to do."""

    @operation(
        "runs_retry",
        "Retry a run",
        tag="runs",
        status=202,
        answer=RunDetailSerializer,
        problems=[403, 404, 409, 503],
        parameters=[IDEMPOTENCY_KEY],
        description="A new run of the same input with the agent's present version, linked by "
        "`retry_of`. The run must have ended. For operators of its environment.",
    )
    def post(self, request: Request, run: str) -> Response:
        ended = services.get(self.principal, run)
        with _key_in_header():
            again = services.retry(
                self.principal,
                ended,
                idempotency_key=request.headers.get(_KEY),
                request_id=request_id(),
            )
        return _accepted(self.principal, again)


class Deciding(Door):
    """Settling calls in doubt."""

    @operation(
        "runs_decide",
        "Decide about calls in doubt",
        tag="runs",
        body=DecisionsShape,
        answer=RunDetailSerializer,
        problems=[403, 404, 409],
        examples=[
            OpenApiExample(
                "One call happened, the other did not",
                value={
                    "decisions": [
                        {"call_id": "c1", "verdict": "happened", "result": "Order 7 is made."},
                        {"call_id": "c2", "verdict": "repeat"},
                    ],
                    "why": "I looked into the shop.",
                },
                request_only=True,
            )
        ],
        description="Of a run that waits in doubt, every one of its `open_calls`. It goes on, or "
        "ends as failed where one verdict is `stop`. For operators of its environment.",
    )
    def post(self, request: Request, run: str) -> Response:
        said = [
            Decision(
                call_id=each["call_id"],
                verdict=Verdict(each["verdict"]),
                result=each.get("result", ""),
            )
            for each in self.given["decisions"]
        ]
        found = services.get(self.principal, run)
        decided = decisions.decide(self.principal, found, said, why=self.given.get("why", ""))
        return Response(RunDetailSerializer(decided).data)


class Events(Door):
    """The journal of a run."""

    @operation(
        "runs_events",
        "Read a run's journal",
        tag="runs",
        query=EventQuery,
        answer=EventPageSerializer,
        problems=[404],
    )
    def get(self, request: Request, run: str) -> Response:
        after = self.wanted.get("after", 0)
        limit = self.wanted.get("limit", _EVENTS)
        rows = services.events(self.principal, run).filter(seq__gt=after)[: limit + 1]
        events = [
            event_json(Event(seq=row.seq, kind=Kind(row.kind), at=row.at, payload=row.payload))
            for row in rows
        ]
        more = None
        if len(events) > limit:
            events.pop()
            path = f"{request.path}?after={events[-1]['seq']}&limit={limit}"
            more = request.build_absolute_uri(path)
        return Response({"items": events, "next": more})


class Stream(Door):
    """Documents the live stream, which :mod:`runs.stream` serves beside Django."""

    @operation(
        "runs_stream",
        "Follow a run live",
        tag="runs",
        answer={(200, "text/event-stream"): OpenApiTypes.STR},
        problems=[404, 503],
        parameters=[
            OpenApiParameter(
                "Last-Event-ID",
                OpenApiTypes.INT,
                OpenApiParameter.HEADER,
                description="The `seq` of the last event you have; the stream goes on behind it.",
            )
        ],
        description="Server-sent events. Each journaled step comes as an event named by its kind, "
        "with `id: <seq>` and the step as JSON. What the model is saying comes as `delta` events "
        "without an id, and is not repeated. The stream ends with the run.",
    )
    def get(self, request: Request, run: str) -> Response:
        raise Unavailable(
            "This web server does not serve event streams.",
            fix="Ask one that `station web` started.",
        )
