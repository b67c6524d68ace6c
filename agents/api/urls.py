"""The paths of agents, below ``/api/v1/``."""

from django.urls import path

from agents.api import views

urlpatterns = [
    path("agents", views.Agents.as_view(), name="agents"),
    path("agents/<str:agent>", views.OneAgent.as_view(), name="agent"),
    path("agents/<str:agent>/versions", views.Versions.as_view(), name="versions"),
    path("agents/<str:agent>/versions/<int:number>", views.Version.as_view(), name="version"),
]
