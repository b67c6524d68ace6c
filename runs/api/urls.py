"""The paths of runs and of the queue, below ``/api/v1/``."""

from django.urls import path

from runs.api import queue, views

urlpatterns = [
    path("agents/<str:agent>/runs", views.Submissions.as_view(), name="agent-runs"),
    path("runs", views.Runs.as_view(), name="runs"),
    path("runs/cancel", views.BulkCancellation.as_view(), name="runs-cancellation"),
    path("runs/<str:run>", views.OneRun.as_view(), name="run"),
    path("runs/<str:run>/cancel", views.Cancellation.as_view(), name="run-cancellation"),
    path("runs/<str:run>/decide", views.Deciding.as_view(), name="run-decision"),
    path("runs/<str:run>/retry", views.Retry.as_view(), name="run-retry"),
    path("runs/<str:run>/events", views.Events.as_view(), name="run-events"),
    path("runs/<str:run>/stream", views.Stream.as_view(), name="run-stream"),
    path("queue", queue.Queue.as_view(), name="queue"),
    path("queue/pause", queue.QueuePause.as_view(), name="queue-pause"),
    path("queue/resume", queue.QueueResumption.as_view(), name="queue-resumption"),
]
