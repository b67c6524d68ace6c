"""The queue: how it stands, and the switch of all of it."""

from rest_framework.request import Request
from rest_framework.response import Response

from runs.api.serializers import QueueQuery, QueueSerializer, QueueSwitchSerializer
from runs.overview import overview
from station.accounts import pausing
from station.accounts.api.door import Door, operation


class Queue(Door):
    """How the queue stands."""

    @operation(
        "queue_get",
        "Look at the queue",
        tag="queue",
        query=QueueQuery,
        answer=QueueSerializer,
        description="The queues of your environments, how full their agents with caps are, the "
        "workers, and model providers that are down.",
    )
    def get(self, request: Request) -> Response:
        seen = overview(self.principal, environment_id=self.wanted_environment())
        return Response(QueueSerializer(seen).data)


class QueuePause(Door):
    """Stopping the whole queue."""

    @operation(
        "queue_pause",
        "Pause the whole queue",
        tag="queue",
        answer=QueueSwitchSerializer,
        problems=[403],
        description="Runs are accepted and none start, in any environment, also in those made "
        "meanwhile; running ones go on. It is a switch beside `paused` of each environment. For "
        "platform admins.",
    )
    def post(self, request: Request) -> Response:
        return Response(QueueSwitchSerializer(pausing.pause_queue(self.principal)).data)


class QueueResumption(Door):
    """Letting the whole queue go on."""

    @operation(
        "queue_resume",
        "Resume the whole queue",
        tag="queue",
        answer=QueueSwitchSerializer,
        problems=[403],
        description="Runs start again, but in environments that are paused themselves. For "
        "platform admins.",
    )
    def post(self, request: Request) -> Response:
        return Response(QueueSwitchSerializer(pausing.resume_queue(self.principal)).data)
