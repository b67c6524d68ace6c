"""Fixtures for every test."""

import station.celery  # noqa: F401 - as every process does: bells go to the configured broker
