"""Where URLs lead. /health, /ready, /metrics and event streams are answered in station.asgi."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from station.rest import docs

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("api/v1/", docs.index, name="api"),
    path("api/v1/docs", docs.page, name="docs"),
    path("api/v1/openapi.json", docs.openapi, name="openapi"),
    path("api/v1/", include("station.accounts.api.urls")),
    path("api/v1/", include("toolservers.api.urls")),
    path("api/v1/", include("agents.api.urls")),
    path("api/v1/", include("runs.api.urls")),
]

handler400 = "station.rest.problems.bad_request"
handler403 = "station.rest.problems.permission_denied"
handler404 = "station.rest.problems.not_found"
handler500 = "station.rest.problems.server_error"
