"""Settings for tools that only read the code (mypy's Django plugin): nothing is connected to."""

import os

os.environ.setdefault("STN_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
os.environ.setdefault("STN_REDIS_URL", "redis://127.0.0.1:1/0")
os.environ.setdefault("STN_ENCRYPTION_KEY", "00" * 32)

from station.settings import *  # noqa: F403

del DATABASES["default"]["OPTIONS"]["pool"]  # noqa: F405 - it would wait for a server
