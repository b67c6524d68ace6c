"""The web admin of runs and workers, and the dashboard."""

from django.contrib import admin

from runs.admin import events, runs, workers

__all__ = ["events", "runs", "workers"]

admin.site.index_title = "Dashboard"
admin.site.index_template = "admin/runs/dashboard/index.html"
