"""The paths of tool servers and tools, below ``/api/v1/``."""

from django.urls import path

from toolservers.api import views

urlpatterns = [
    path("tool-servers", views.ToolServers.as_view(), name="tool-servers"),
    path("tool-servers/<str:server>", views.OneToolServer.as_view(), name="tool-server"),
    path("tool-servers/<str:server>/discover", views.Discovery.as_view(), name="discovery"),
    path("tool-servers/<str:server>/test", views.Test.as_view(), name="tool-server-test"),
    path("tool-servers/<str:server>/logs", views.Log.as_view(), name="tool-server-logs"),
    path("tools", views.Tools.as_view(), name="tools"),
    path("tools/<int:tool_id>", views.OneTool.as_view(), name="tool"),
    path("tools/<int:tool_id>/approve", views.ApproveTool.as_view(), name="tool-approval"),
]
