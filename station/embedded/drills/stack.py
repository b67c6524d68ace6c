"""The throw-away Station of a drill: services, a scripted model, a tool server that keeps count."""

import contextlib
import logging
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from station.embedded import throwaway
from station.embedded.drills.failures import BUSY, DrillFailed, NotInTime, explained, keep
from station.embedded.drills.history import TERMINAL
from station.embedded.drills.report import Report, Say
from station.embedded.drills.rows import read_records
from station.embedded.ports import LOOPBACK
from station.embedded.postgres import Postgres
from station.embedded.process import Command, GuardedProcess
from station.embedded.valkey import Valkey

T = TypeVar("T")
PREFIX = "station-drill-"
_POLL = 0.1
_UP = 180.0
_GONE = 10.0
_LISTENING = re.compile(r"listening on (\d+)")


@contextlib.contextmanager
def staged(report: Report, say: Say, **described: Any) -> Iterator["Stack"]:
    """A :class:`Stack` for the block. Its logs are kept where the promise did not hold.

    Raises:
        DrillFailed: the machine, or a service of the stack, did not do what it was asked to.
    """
    with explained(report):
        throwaway.sweep(PREFIX)
        with contextlib.closing(Stack(say, **described)) as stack:
            try:
                stack.start()
                yield stack
            except Exception:
                _keep(report, stack, say)
                raise
            if not report.held:
                _keep(report, stack, say)


def _keep(report: Report, stack: "Stack", say: Say) -> None:
    """Keep what tells how it came to this: the logs, and the journals of the runs concerned."""
    records = []
    with contextlib.suppress(Exception):  # there may be no database any more, nor its tables
        records = read_records(report.offenders or None)
    if not report.offenders:
        records = [record for record in records if record.status not in TERMINAL]
    report.kept = keep(stack.folder, report.drill, records)
    if report.kept is not None:
        say(f"its logs and journals are in {report.kept}")


class Stack:
    """Everything a drill needs, on free ports; gone when it is closed.

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
        ai: Mapping[str, Any] | None = None,
        **queue: Any,
    ) -> None:
        """Describe it.

        Args:
            say: gets a line for each thing that takes time.
            scripts: what the model plays; each is the model of its name.
            lease: seconds a worker holds a run without renewing.
            slots: runs at once in one worker.
            ai: further settings of the section ``ai``.
            queue: further settings of the section ``execution_queue``.
        """
        self._say, self._scripts, self.lease = say, scripts, lease
        self._ai = ai or {}
        self._queue = {
            "workers": slots,
            "lease": f"{lease}s",
            "heartbeat": f"{min(5.0, lease / 4)}s",
            "keeper_tick": f"{min(2.0, lease / 6)}s",
            "buffer_size": 1_000_000,
            **queue,
        }
        self.folder = throwaway.new_folder(PREFIX)
        # A killed server loses no commit without fsync; a killed machine might.
        settings = {"max_connections": "200", "fsync": "off", "full_page_writes": "off"}
        self.postgres = Postgres(self.folder, settings=settings)
        self.valkey = Valkey(self.folder)
        self.sink = self.folder / "sink"
        self.tools_port = 0
        self._tools: GuardedProcess | None = None
        self._processes: list[GuardedProcess] = []
        self._ending = contextlib.ExitStack()
        self._ending.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the services, and set up Django on them."""
        more = ", a scripted model and a tool server" if self._scripts else ""
        self._say(f"starting PostgreSQL and Valkey{more}")
        if self._scripts:
            self._start_tools()
        self._ending.callback(self.postgres.remove)
        self.postgres.start()
        self._ending.callback(self.valkey.stop)
        self.valkey.start()
        self._configure(self._ending.enter_context(self._model()))
        self._ending.callback(self.quiet)
        _set_up_django()
        if self._scripts:
            self.tools_port = self.until(self._listening, "the tool server")

    def close(self) -> None:
        """End everything that was started, and remove the folder."""
        self._ending.close()

    @property
    def log(self) -> Path:
        """What all its processes say, but for the tool server."""
        return self.folder / "log"

    def run(self, *words: str) -> GuardedProcess:
        """Start ``python -m …`` with the stack's configuration; it cannot outlive this process."""
        process = self._spawn(words, self.log)
        self._processes = [old for old in self._processes if old.returncode is None]
        self._processes.append(process)
        return process

    def worker(self) -> GuardedProcess:
        """Start a worker; :meth:`await_workers` waits until it listens."""
        return self.run("station.cli.main", "worker")

    def keeper(self) -> GuardedProcess:
        """Start a keeper."""
        return self.run("station.cli.main", "keeper")

    def await_workers(self, *processes: GuardedProcess) -> None:
        """Wait until the workers report themselves."""
        from runs.models import Worker  # noqa: PLC0415

        pids = {process.pid for process in processes}

        def reported() -> bool:
            if any(process.returncode is not None for process in processes):
                raise DrillFailed(f"A worker ended at its start: {_end_of(self.log)}")
            return set(Worker.objects.values_list("pid", flat=True)) >= pids

        self.until(reported, "the workers")

    def until(
        self,
        holds: Callable[[], T],
        what: str,
        *,
        within: float = _UP,
        each: Callable[[], object] = bool,
    ) -> T:
        """Wait until ``holds()`` is true and return its value; call ``each`` between two looks.

        Raises:
            NotInTime: it did not come true in time.
            DrillFailed: :meth:`check` has found something.
        """
        deadline = time.monotonic() + within
        while not (value := holds()):
            self.check()
            if time.monotonic() > deadline:
                raise NotInTime(f"Waited {within:.0f} s for {what}.", fix=BUSY)
            each()
            time.sleep(_POLL)
        return value

    def came_true(
        self, holds: Callable[[], object], *, within: float, each: Callable[[], object] = bool
    ) -> bool:
        """Whether ``holds()`` came true in time."""
        try:
            self.until(holds, "it", within=within, each=each)
        except NotInTime:
            return False
        return True

    def check(self) -> None:
        """Raise :class:`DrillFailed` if what the drill counts with has ended by itself."""
        if self._tools is not None and self._tools.returncode is not None:
            said = _end_of(self._tools_log)
            raise DrillFailed(f"The tool server ended with {self._tools.returncode}: {said}")

    def quiet(self) -> None:
        """End every process of Station, whatever it is doing; the services go on."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait(_GONE)

    @contextlib.contextmanager
    def _model(self) -> Iterator[str]:
        if not self._scripts:
            yield f"http://{LOOPBACK}:1/v1"
            return
        from runs.scripted.testing import ScriptedModel  # noqa: PLC0415

        with ScriptedModel([dict(script) for script in self._scripts]) as model:
            self.model = model
            yield model.base_url

    @property
    def _tools_log(self) -> Path:
        return self.folder / "tools.log"

    def _start_tools(self) -> None:
        """It chooses its port when it binds it, so that nobody can be quicker."""
        words = ("toolservers.testing", "--sink", str(self.sink), "--http", "0")
        self._tools = self._spawn(words, self._tools_log)
        self._ending.callback(self._tools.wait, _GONE)
        self._ending.callback(self._tools.kill)

    def _listening(self) -> int:
        """The port of the tool server, once it listens."""
        found = _LISTENING.search(self._tools_log.read_text())
        return int(found[1]) if found else 0

    def _spawn(self, words: Sequence[str], log: Path) -> GuardedProcess:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            command = Command(argv=[sys.executable, "-m", *words], env=dict(os.environ))
            return GuardedProcess(command, output=descriptor)
        finally:
            os.close(descriptor)

    def _configure(self, base_url: str) -> None:
        for name in [name for name in os.environ if name.startswith("STN_")]:
            del os.environ[name]
        self._base_url = base_url
        os.environ.update(
            {
                "STN_CONFIG": str(self.config()),
                "STN_DATABASE_URL": self.postgres.url,
                "STN_REDIS_URL": self.valkey.url,
                "STN_ENCRYPTION_KEY": secrets.token_hex(32),
                "STN_AI_API_KEY": "none",
                "STN_DATA_DIR": str(self.folder / "data"),
            }
        )

    def config(self, *, slots: int | None = None) -> Path:
        """The configuration file; with ``slots``, one for a worker of so many runs at once."""
        queue = self._queue if slots is None else {**self._queue, "workers": slots}
        file = self.folder / ("config.yaml" if slots is None else f"config-{slots}.yaml")
        content = {
            "execution_queue": queue,
            "ai": {
                "provider": "openai",
                "base_url": self._base_url,
                "model": "answer",
                **self._ai,
            },
            "database": {"max_connections": 12, "max_idle_connections": 2},
            "log": {"level": "warn"},
        }
        file.write_text(yaml.safe_dump(content))
        return file


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:].strip()


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
