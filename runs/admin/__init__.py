"""The web admin of runs, workers and model circuits, and the dashboard."""

from django.contrib import admin

from runs.admin import circuits, events, runs, workers

__all__ = ["circuits", "events", "runs", "workers"]

admin.site.index_title = "Dashboard"
admin.site.index_template = "admin/runs/dashboard/index.html"
