"""What every long-running process does first."""

import os

from setproctitle import setproctitle

from station.config import Config, current


def prepare(title: str) -> Config:
    """Name the process, open the shared metrics folder, set up Django."""
    config = current()
    os.environ["NOSETPS"] = "1"  # else Celery names the process after itself
    setproctitle(f"station {title}")
    folder = config.data_dir / "metrics"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(folder))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "station.settings")
    import django  # noqa: PLC0415

    import station.celery  # noqa: F401, PLC0415 - no process may fall back to a default app

    django.setup()
    from station.observe.metrics import start_sampling  # noqa: PLC0415

    if title != "web":  # gunicorn's workers start it themselves, after their fork
        start_sampling()
    return config
