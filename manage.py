#!/usr/bin/env python3
"""Django's command line, for developers; operators use ``station``."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "station.settings")
    from django.core.management import execute_from_command_line

    import station.celery  # noqa: F401 - no process may fall back to a default Celery app

    execute_from_command_line(sys.argv)
