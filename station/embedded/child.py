"""One supervised process: started, awaited, restarted, given up."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from station.embedded import files, output
from station.embedded.errors import ChildFailed, SpawnFailed
from station.embedded.process import Command, GuardedProcess

READY_POLL = 0.05
HURRY_POLL = 0.05
KILL_PATIENCE = 10.0
PUMP_PATIENCE = 2.0
NOT_READY = "was not ready in time"


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """A process to keep running."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    """Variables on top of this process's own environment."""
    cwd: Path | None = None
    ready: Callable[[], bool] | None = None
    """Asked until it says True; None: ready once started. See `station.embedded.probes`."""
    ready_timeout: float = 60.0
    """Seconds from start to ready."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout: float = 30.0
    """Seconds from the stop signal to SIGKILL for it and all its descendants."""


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """When a process that ended is started again, and when not any more."""

    first_delay: float = 0.5
    """Seconds before the first restart; doubled for each further quick failure."""
    max_delay: float = 30.0
    quick: float = 10.0
    """One that ends sooner than this many seconds, or is not ready in time, has failed quickly."""
    give_up_after: int = 5
    """That many quick failures in a row end the attempts."""

    def delay(self, failures: int) -> float:
        """Seconds to wait before the next start after so many quick failures in a row."""
        return min(self.max_delay, self.first_delay * 2.0 ** max(0, failures - 1))


class Child:
    """Keeps one process up, on a thread of its own."""

    def __init__(
        self,
        spec: ChildSpec,
        *,
        policy: RestartPolicy,
        on_output: output.OnOutput,
        output_lock: threading.Lock,
        log_dir: Path | None,
        say: Callable[[str], None],
        gave_up: Callable[[], None],
    ) -> None:
        self.spec = spec
        self._policy = policy
        self._on_output = on_output
        self._output_lock = output_lock
        self._log_dir = log_dir
        self._say = say
        self._gave_up = gave_up
        self._stopping = threading.Event()
        self._settled = threading.Event()
        self._current = threading.Lock()
        self._process: GuardedProcess | None = None
        self._pump: threading.Thread | None = None
        self._thread = threading.Thread(target=self._keep_up, name=f"keep-{spec.name}", daemon=True)
        self.failure: ChildFailed | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the running instance, if there is one."""
        process = self._process
        return process.pid if process and process.returncode is None else None

    def start(self, *, cancelled: Callable[[], bool]) -> None:
        """Start the process and return once it is ready, or `cancelled()` is true.

        Raises:
            ChildFailed: it was not ready in time, or failed quickly too often.
        """
        self._thread.start()
        while not self._settled.wait(READY_POLL):
            if cancelled():
                return
        if self.failure:
            raise self.failure

    def stop(self, *, hurry: Callable[[], bool]) -> None:
        """End the process: its stop signal, its deadline (none once `hurry()` is true), SIGKILL."""
        with self._current:
            self._stopping.set()
            process = self._process
        if process is not None and process.returncode is None:
            self._end(process, hurry)
        self._thread.join(KILL_PATIENCE)
        if self._pump is not None:  # the last lines
            self._pump.join(PUMP_PATIENCE)

    def _end(self, process: GuardedProcess, hurry: Callable[[], bool]) -> None:
        process.send_signal(self.spec.stop_signal)
        deadline = time.monotonic() + self.spec.stop_timeout
        while process.wait(HURRY_POLL) is None:
            if hurry() or time.monotonic() >= deadline:
                self._say(f"{self.spec.name} has not stopped yet: killing it")
                process.kill()
                process.wait(KILL_PATIENCE)
                return

    def _keep_up(self) -> None:
        try:
            self._run_again_and_again()
        finally:
            if self.failure is None and not self._stopping.is_set():
                # A readiness probe raised; this thread's traceback tells which.
                self._give_up("cannot be watched", 1)
            self._settled.set()

    def _run_again_and_again(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            end = self._run_once()
            if self._stopping.is_set():
                return
            first_start_failed = end is NOT_READY and not self._settled.is_set()
            quick = end is NOT_READY or time.monotonic() - began < self._policy.quick
            failures = failures + 1 if quick else 0
            if first_start_failed or failures >= self._policy.give_up_after:
                self._give_up(end, failures)
                return
            delay = self._policy.delay(failures)
            self._say(f"{self.spec.name} {end}; starting it again in {delay:g} s")
            self._stopping.wait(delay)

    def _give_up(self, end: str, failures: int) -> None:
        times = f", {failures} times in a row" if failures > 1 else ""
        where = (
            f"See {self._log_path(self._log_dir)}." if self._log_dir else "See its output above."
        )
        self.failure = ChildFailed(f"{self.spec.name} {end}{times}: giving up.", fix=where)
        self._say(str(self.failure))
        self._gave_up()

    def _run_once(self) -> str:
        """Start the process, see it ready, wait for its end; returns how it ended, in words."""
        try:
            with self._current:
                if self._stopping.is_set():
                    return "was stopped"
                process = self._process = self._spawn()
        except (SpawnFailed, OSError) as error:
            return f"could not be started ({error})"
        if self._await_ready(process):
            self._settled.set()
        elif process.returncode is None and not self._stopping.is_set():
            self._end(process, self._stopping.is_set)
            return NOT_READY
        status = process.wait()
        return described(status)

    def _await_ready(self, process: GuardedProcess) -> bool:
        if self.spec.ready is None:
            return True
        deadline = time.monotonic() + self.spec.ready_timeout
        while process.wait(READY_POLL) is None and not self._stopping.is_set():
            if self.spec.ready():
                return True
            if time.monotonic() >= deadline:
                return False
        return False

    def _spawn(self) -> GuardedProcess:
        spec = self.spec
        command = Command(
            argv=spec.argv,
            # A pipe would make Python children keep their lines back.
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(spec.env or {})},
            cwd=spec.cwd,
        )
        if self._log_dir is not None:
            log = files.open_log(self._log_path(self._log_dir))
            try:
                return GuardedProcess(command, output=log)
            finally:
                os.close(log)
        reading, writing = os.pipe()
        self._pump = threading.Thread(
            target=output.pump,
            args=(reading, spec.name, self._on_output, self._output_lock),
            name=f"output-{spec.name}",
            daemon=True,
        )
        self._pump.start()
        try:
            return GuardedProcess(command, output=writing)
        finally:
            os.close(writing)

    def _log_path(self, folder: Path) -> Path:
        return folder / f"{self.spec.name}.log"


def described(status: int | None) -> str:
    """An exit status in words: `exited with status 1`, `was killed by SIGKILL`."""
    if status is None or status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
