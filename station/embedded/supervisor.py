"""Runs Station's processes: starts them in order, keeps them up, stops them in reverse order."""

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from station.embedded import files
from station.embedded.child import Child, ChildSpec, RestartPolicy
from station.embedded.errors import ChildFailed
from station.embedded.output import OnOutput, prefixed

__all__ = ["ChildSpec", "RestartPolicy", "Supervisor"]

SELF = "station"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Supervisor:
    """A group of processes that live and end together.

    `run()` is a whole program (`station server`); `start()` and `stop()`, or `with`, embed the
    group in one. Nothing of it survives this process, also not when this process is killed.
    """

    def __init__(
        self,
        children: Sequence[ChildSpec],
        *,
        on_output: OnOutput | None = None,
        log_dir: Path | None = None,
        policy: RestartPolicy | None = None,
        stop_together: bool = False,
    ) -> None:
        """Describe the group; nothing is started yet.

        Args:
            children: in starting order; each is started when the one before is ready.
            on_output: gets (name, line) for every line of output, and the supervisor's own lines
                under the name "station"; by default they are printed with the name in front.
            log_dir: the children write to `<log_dir>/<name>.log` instead.
            policy: when to restart and when to give up.
            stop_together: signal all children at once, so that stopping takes as long as the
                slowest of them and not as long as all in turn.

        Raises:
            ValueError: two children have the same name.
        """
        names = [spec.name for spec in children]
        if len(set(names)) != len(names):
            raise ValueError(f"children must have different names: {names}")
        self._sink = on_output or prefixed([SELF, *names])
        self._output_lock = threading.Lock()
        self._log_dir = log_dir
        self._waker, self._alarm = socket.socketpair()
        self._alarm.setblocking(False)
        self._signals = 0
        self._started: list[Child] = []
        self._failed = False
        self._stop_together = stop_together
        self._children = [
            Child(
                spec,
                policy=policy or RestartPolicy(),
                on_output=self._sink,
                output_lock=self._output_lock,
                log_dir=log_dir,
                say=self._say,
                gave_up=self._child_gave_up,
            )
            for spec in children
        ]

    def run(self) -> int:
        """Start the children and keep them up until a signal comes or one is given up.

        SIGTERM, SIGINT or SIGHUP stops the group in good order; a second one kills what is left.
        Main thread only. Returns 0 after a signal, 1 when a child could not be kept up.
        """
        with self._handling_signals():
            try:
                self._start(interruptible=True)
                if not self._signals:
                    self._waker.recv(1)
            except ChildFailed:
                self._failed = True  # it has been said
            if self._signals:
                self._say("stopping")
            self.stop()
        return 1 if self._failed else 0

    def start(self) -> None:
        """Start the children in order; returns when all are ready.

        Raises:
            ChildFailed: one does not come up; those before it have been stopped again.
        """
        try:
            self._start(interruptible=False)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the children, in reverse order or together. A stopped group stays stopped."""
        stopping = [
            threading.Thread(target=child.stop, kwargs={"hurry": lambda: self._signals > 1})
            for child in reversed(self._started)
        ]
        self._started.clear()
        for thread in stopping:
            thread.start()
            if not self._stop_together:
                thread.join()
        for thread in stopping:
            thread.join()
        self._waker.close()
        self._alarm.close()

    def pids(self) -> dict[str, int]:
        """The process id of every child that is running now, by name."""
        return {child.spec.name: pid for child in self._children if (pid := child.pid)}

    @property
    def failure(self) -> ChildFailed | None:
        """Why the group is not whole any more: the first child that was given up."""
        return next((child.failure for child in self._children if child.failure), None)

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

    def _start(self, *, interruptible: bool) -> None:
        if self._log_dir is not None:
            files.make_folder(self._log_dir)
        for child in self._children:
            if interruptible and self._signals:
                return
            self._started.append(child)
            child.start(cancelled=lambda: interruptible and self._signals > 0)

    def _say(self, line: str) -> None:
        with self._output_lock, contextlib.suppress(OSError, ValueError):
            self._sink(SELF, line)

    def _child_gave_up(self) -> None:
        self._failed = True
        self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # full: it has been rung often enough
            self._alarm.send(b"!")

    @contextlib.contextmanager
    def _handling_signals(self) -> Iterator[None]:
        def note(_number: int, _frame: FrameType | None) -> None:
            # Only this: a lock taken here could be held by the code that was interrupted.
            self._signals += 1
            self._ring()

        former = {}
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays in force
                former[number] = signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
