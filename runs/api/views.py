"""Runs: submit, list, look at, cancel; the queue."""

from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.status import HTTP_202_ACCEPTED

from agents import services as agents
from agents.api.views import BY_REFERENCE, OfAgent
from runs import queue, services
from runs.api.serializers import (
    EventPageSerializer,
    EventQuery,
    NewRun,
    QueueSerializer,
    RunDetailSerializer,
    RunQuery,
    RunSerializer,
)
from runs.bus import event_json
from runs.entries import Event, Kind
from station.accounts.api.door import Door, filtering, operation, page_of
from station.accounts.api.shapes import InEnvironment
from station.accounts.services import visible_environments
from station.core.errors import Unavailable
from station.observe.context import request_id

_EVENTS = 100
_ALIVE = 15.0
_LISTED = (
    *("id", "status", "priority", "submitted_by", "wait_reason"),
    *("created_at", "started_at", "finished_at", "cancel_requested_at"),
    *("steps", "input_tokens", "output_tokens", "cost_usd"),
    *("error_code", "error_message", "error_reference"),
    *("environment__name", "agent__name", "version__number"),
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
        problems=[403, 404, 409],
        parameters=[
            OpenApiParameter(
                "Idempotency-Key",
                OpenApiTypes.STR,
                OpenApiParameter.HEADER,
                description="1 to 255 characters of your choice. Within 24 hours the same request "
                "with the same key is one run; a different request with it is refused (422).",
            )
        ],
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
        run = services.submit(
            self.principal,
            found,
            services.Request(**given),
            idempotency_key=request.headers.get("Idempotency-Key"),
            request_id=request_id(),
        )
        run = services.get(self.principal, run.pk)
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
        wanted = self.wanted
        environment_id = self.wanted_environment()
        if environment_id is not None:
            rows = rows.filter(environment_id=environment_id)
        if "agent" in wanted:
            with filtering("agent"):
                agent = agents.get(self.principal, wanted["agent"], environment_id=environment_id)
            rows = rows.filter(agent=agent)
        lookups = {
            "status": "status__in",
            "created_after": "created_at__gt",
            "created_before": "created_at__lt",
            "submitted_by": "submitted_by",
        }
        narrowed = {lookups[name]: wanted[name] for name in lookups if name in wanted}
        return self.page(rows.filter(**narrowed), RunSerializer)


class OneRun(Door):
    """A run."""

    @operation(
        "runs_get",
        "Get a run",
        tag="runs",
        answer=RunDetailSerializer,
        problems=[404],
        description="Of a queued run it says why it is queued.",
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


class Queue(Door):
    """How the queue stands."""

    @operation("queue_get", "Look at the queue", tag="queue", answer=QueueSerializer)
    def get(self, request: Request) -> Response:
        answer = {
            "environments": queue.states(visible_environments(self.principal)),
            "workers": queue.live_workers(within=_ALIVE),
        }
        return Response(QueueSerializer(answer).data)
