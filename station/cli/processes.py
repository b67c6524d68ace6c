"""The long-running processes: one function each, called by the command of the same name.

They are called in a process of their own, before anything else was imported, and return its exit
code.
"""

import os
import signal
import threading

from setproctitle import setproctitle

from station.config import Config, current


def prepare(title: str) -> Config:
    """Name the process, open the shared metrics folder, set up Django."""
    config = current()
    setproctitle(f"station {title}")
    folder = config.data_dir / "metrics"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(folder))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "station.settings")
    import django  # noqa: PLC0415

    import station.celery  # noqa: F401, PLC0415 - no process may fall back to a default app

    django.setup()
    return config


def run_worker() -> int:
    """Claim and carry runs until SIGTERM; then hand everything back within 25 s."""
    prepare("worker")
    from station.celery import app  # noqa: PLC0415

    app.worker_main(
        ["worker", "--loglevel", "INFO", "--without-gossip", "--without-mingle",
         "--without-heartbeat", "--queues", "station", "--hostname", f"{os.getpid()}@%h"]
    )  # fmt: skip
    return 0


def run_keeper() -> int:
    """Call the keeper's jobs until SIGTERM."""
    prepare("keeper")
    from station.ops import keeper  # noqa: PLC0415

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    keeper.run(stop)
    return 0
