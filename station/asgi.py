"""The web process's ASGI application: probes, event streams, and Django for everything else."""

import os

import django

import station.celery  # noqa: F401 - no process may fall back to a default Celery app
from station.config import current

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "station.settings")
django.setup(set_prefix=False)

# What follows imports models, which exist from here on.
from runs.stream import application as stream  # noqa: E402
from station.rest.front import Front  # noqa: E402
from station.rest.threads import ThreadedDjango  # noqa: E402

_RESERVED = 4
"""Connections of the pool that are left to event streams and scrapes."""

_config = current()
application = Front(
    site=ThreadedDjango(
        threads=max(2, _config.database.max_connections - _RESERVED),
        max_body=_config.api.max_body,
    ),
    streams=stream,
)
