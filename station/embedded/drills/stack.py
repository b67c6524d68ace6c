"""The throw-away Station of a drill: services, a scripted model, a tool server that keeps count."""

import contextlib
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml

from station.core.errors import StationError
from station.embedded.drills.report import Say
from station.embedded.ports import LOOPBACK, free_port
from station.embedded.postgres import Postgres
from station.embedded.probes import tcp_ready
from station.embedded.process import Command, GuardedProcess
from station.embedded.valkey import Valkey

T = TypeVar("T")
_POLL = 0.05
_UP = 90.0
ENVIRONMENT = "drill"


class DrillFailed(StationError):
    """A drill could not be carried out."""

    code = "drill_failed"


def until(
    holds: Callable[[], T], what: str, *, within: float = _UP, each: Callable[[], object] = bool
) -> T:
    """Wait until ``holds()`` is true and return its value; call ``each`` between two looks.

    Raises:
        DrillFailed: it did not come true in time.
    """
    deadline = time.monotonic() + within
    while not (value := holds()):
        if time.monotonic() > deadline:
            raise DrillFailed(f"Waited {within:.0f} s for {what}.")
        each()
        time.sleep(_POLL)
    return value


class Stack:
    """Everything a drill needs, on free ports, gone when the ``with`` block ends.

    It claims this process: variables named ``STN_…`` are replaced by its own, and Django is set up
    on its database. So there is one in the life of a process.
    """

    def __init__(
        self,
        say: Say,
        *,
        scripts: Sequence[Mapping[str, Any]] = (),
        lease: float = 6.0,
        slots: int = 8,
        **queue: Any,
    ) -> None:
        """Describe it.

        Args:
            say: gets a line for each thing that takes time.
            scripts: what the model plays; an agent is made for each, named after it.
            lease: seconds a worker holds a run without renewing.
            slots: runs at once in one worker.
            queue: further settings of the section ``execution_queue``.
        """
        self._say, self._scripts, self.lease = say, scripts, lease
        self._queue = {
            "workers": slots,
            "lease": f"{lease}s",
            "heartbeat": f"{min(5.0, lease / 4)}s",
            "keeper_tick": f"{min(2.0, lease / 6)}s",
            "buffer_size": 1_000_000,
            **queue,
        }
        self.folder = Path(tempfile.mkdtemp(prefix="station-drill-"))
        self.folder.chmod(0o711)
        # A killed server loses no commit without fsync; a killed machine might.
        settings = {"max_connections": "200", "fsync": "off", "full_page_writes": "off"}
        self.postgres = Postgres(self.folder, settings=settings)
        self.valkey = Valkey(self.folder)
        self.sink = self.folder / "sink"
        self.tools_port = free_port()
        self._ending = contextlib.ExitStack()
        self._processes: list[GuardedProcess] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as starting:
            starting.callback(shutil.rmtree, self.folder, ignore_errors=True)
            starting.callback(self.postgres.remove)
            starting.callback(self.valkey.stop)
            starting.callback(self._end_processes)
            more = ", a scripted model and a tool server" if self._scripts else ""
            self._say(f"starting PostgreSQL and Valkey{more}")
            self.postgres.start()
            self.valkey.start()
            base_url = starting.enter_context(self._model())
            self._start_tools()
            self._configure(base_url)
            _set_up_django()
            self._ending = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    @property
    def log(self) -> Path:
        """What all its processes say."""
        return self.folder / "log"

    def start(self, *words: str) -> GuardedProcess:
        """Start ``python -m …`` with the stack's configuration; it cannot outlive this process."""
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            command = Command(argv=[sys.executable, "-m", *words], env=dict(os.environ))
            process = GuardedProcess(command, output=descriptor)
        finally:
            os.close(descriptor)
        self._processes = [old for old in self._processes if old.returncode is None]
        self._processes.append(process)
        return process

    def worker(self) -> GuardedProcess:
        """Start a worker; :meth:`await_workers` waits until it listens."""
        return self.start("station.cli.main", "worker")

    def keeper(self) -> GuardedProcess:
        """Start a keeper."""
        return self.start("station.cli.main", "keeper")

    def await_workers(self, *processes: GuardedProcess) -> None:
        """Wait until the workers report themselves."""
        from runs.models import Worker  # noqa: PLC0415

        pids = {process.pid for process in processes}

        def reported() -> bool:
            if any(process.returncode is not None for process in processes):
                raise DrillFailed(f"A worker ended at its start: {self.log.read_text()[-2000:]}")
            return set(Worker.objects.values_list("pid", flat=True)) >= pids

        until(reported, "the workers")

    def _end_processes(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGCONT)
            process.kill()
        for process in self._processes:
            process.wait(10)

    @contextlib.contextmanager
    def _model(self) -> Iterator[str]:
        if not self._scripts:
            yield f"http://{LOOPBACK}:1/v1"
            return
        from runs.scripted.testing import ScriptedModel  # noqa: PLC0415

        with ScriptedModel([dict(script) for script in self._scripts]) as model:
            self.model = model
            yield model.base_url

    def _start_tools(self) -> None:
        if self._scripts:
            words = ("--sink", str(self.sink), "--http", str(self.tools_port))
            self.start("toolservers.testing", *words)
            until(tcp_ready(LOOPBACK, self.tools_port), "the tool server")

    def _configure(self, base_url: str) -> None:
        for name in [name for name in os.environ if name.startswith("STN_")]:
            del os.environ[name]
        config = self.folder / "config.yaml"
        content = {
            "execution_queue": self._queue,
            "ai": {"provider": "openai", "base_url": base_url, "model": "answer"},
            "database": {"max_connections": 12, "max_idle_connections": 2},
            "log": {"level": "warn"},
        }
        config.write_text(yaml.safe_dump(content))
        os.environ.update(
            {
                "STN_CONFIG": str(config),
                "STN_DATABASE_URL": self.postgres.url,
                "STN_REDIS_URL": self.valkey.url,
                "STN_ENCRYPTION_KEY": secrets.token_hex(32),
                "STN_AI_API_KEY": "none",
                "STN_DATA_DIR": str(self.folder / "data"),
            }
        )


def _set_up_django() -> None:
    """Django on the stack's database, migrated."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "station.settings"
    import django  # noqa: PLC0415

    import station.celery  # noqa: F401, PLC0415 - bells go to the configured broker
    from station.config import process  # noqa: PLC0415

    process.reset()
    django.setup()
    logging.disable(logging.WARNING)  # what this process warns of is what the drill does
    from django.core.management import call_command  # noqa: PLC0415

    call_command("migrate", verbosity=0)
