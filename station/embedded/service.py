"""What the embedded PostgreSQL and Valkey have in common: start, port, readiness, stop."""

import os
import signal
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from station.embedded import files, ports
from station.embedded.errors import FolderInUse, PortTaken, ServiceFailed
from station.embedded.process import Command, GuardedProcess

READY_POLL = 0.02
KEPT_PORT_PATIENCE = 5.0
LOG_TAIL_BYTES = 2_000


class EmbeddedService(ABC):
    """A server process on 127.0.0.1 that ends with this process, whatever ends that.

    Not for use from several threads at once.
    """

    name: ClassVar[str]
    stop_signals: ClassVar[tuple[tuple[signal.Signals, float], ...]]
    """How to end it: signals, each with the seconds it is given."""
    start_timeout: ClassVar[float] = 60.0
    in_use_patience: ClassVar[float] = 10.0
    """Seconds to wait for another instance that uses its files: it may just be shutting down."""
    in_use_texts: ClassVar[tuple[str, ...]] = ()
    """What its log says when another instance still uses its files."""

    def __init__(self, data_dir: Path, *, port: int | None = None) -> None:
        """Describe the service; nothing is touched before `start()`.

        Args:
            data_dir: the folder for its password, log and (PostgreSQL) data; made if missing.
            port: the port to listen on; None takes a free one at the first start.
        """
        self.data_dir = data_dir.absolute()
        self._port = port
        self._served = False
        self._process: GuardedProcess | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The address to connect to, password included."""

    @abstractmethod
    def _prepare(self) -> None:
        """Make what must exist before the process starts."""

    @abstractmethod
    def _command(self, port: int) -> Command:
        """The command that serves on the port."""

    @abstractmethod
    def _is_ready(self, pid: int, port: int) -> bool:
        """Whether the process with this id takes work on this port."""

    @property
    def log(self) -> Path:
        """The file with the server's output."""
        return self.data_dir / f"{self.name}.log"

    @property
    def port(self) -> int:
        """The port it listens on; known from the first start on, and kept.

        Raises:
            ServiceFailed: it was never started and no port was asked for.
        """
        if self._port is None:
            raise ServiceFailed(f"{self.name} has no port yet.", fix="Call start() first.")
        return self._port

    @property
    def pid(self) -> int:
        """The server's own process id (PostgreSQL: the postmaster's)."""
        if self._process is None or self._process.returncode is not None:
            raise ServiceFailed(f"{self.name} is not running.", fix="Call start() first.")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is up."""
        return self._process is not None and self._process.returncode is None

    def start(self) -> None:
        """Start the server and wait until it takes work; does nothing when it already runs.

        Raises:
            PortTaken: somebody else has the port, and it is one we must keep.
            FolderInUse: another server uses the data folder.
            ServiceFailed: it ended, or was not ready in time; the message ends with its log.
        """
        if self.running:
            return
        files.make_folder(self.data_dir)
        self._prepare()
        began = time.monotonic()
        while True:
            port = self._port or self._choose_port()
            try:
                self._process = self._launch(port, began + self.start_timeout)
            except PortTaken:
                patience = KEPT_PORT_PATIENCE if self._served else 0.0
                if self._port and time.monotonic() >= began + patience:
                    raise
            except FolderInUse:
                if time.monotonic() >= began + self.in_use_patience:
                    raise
            else:
                self._port = port
                self._served = True
                return
            time.sleep(0.1)

    def stop(self) -> None:
        """End the server in good order, by force if that takes too long."""
        process, self._process = self._process, None
        if process is not None:
            self._end(process)

    def kill(self) -> None:
        """SIGKILL the server, as a crash would, and wait until nothing of it is left."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def restart(self) -> None:
        """Stop and start again on the same port."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _choose_port(self) -> int:
        return ports.free_port()

    def _end(self, process: GuardedProcess) -> None:
        for number, patience in self.stop_signals:
            process.send_signal(number)
            if process.wait(patience) is not None:
                return
        process.kill()
        process.wait()

    def _launch(self, port: int, deadline: float) -> GuardedProcess:
        output = files.open_log(self.log)
        try:
            log_start = os.fstat(output).st_size
            process = GuardedProcess(self._command(port), output=output)
        finally:
            os.close(output)
        try:
            if self._await_ready(process, port, deadline):
                return process
        except BaseException:  # Ctrl-C above all
            process.kill()
            raise
        if process.returncode is None:
            self._end(process)
            raise ServiceFailed(
                f"{self.name} was not ready within {self.start_timeout:.0f} s.\n"
                f"{self._log_since(log_start)}",
                fix=f"See {self.log}.",
            )
        said = self._log_since(log_start)
        if "Address already in use" in said:
            raise PortTaken(
                f"{self.name} cannot listen on 127.0.0.1:{port}: another process does.",
                fix="Stop that process or choose another port.",
            )
        if any(text in said for text in self.in_use_texts):
            raise FolderInUse(
                f"Another {self.name} runs on {self.data_dir}.\n{said}",
                fix="Stop the Station that uses this folder, or choose another folder.",
            )
        raise ServiceFailed(
            f"{self.name} ended with status {process.returncode} at its start.\n{said}",
            fix=f"See {self.log}.",
        )

    def _await_ready(self, process: GuardedProcess, port: int, deadline: float) -> bool:
        """Wait until the server is ready (True), has ended, or the deadline has passed."""
        while process.wait(READY_POLL) is None and time.monotonic() < deadline:
            if self._is_ready(process.pid, port):
                return True
        return False

    def _log_since(self, offset: int) -> str:
        with self.log.open("rb") as file:
            file.seek(max(offset, self.log.stat().st_size - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").strip()
