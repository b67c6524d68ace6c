"""The worker's slots, as Celery's threads see them: whatever carries the runs of this process."""

from typing import Protocol


class Carrier(Protocol):
    """Carries runs; :class:`runs.host.Host` is the one."""

    def start(self) -> None:
        """Get ready to carry."""

    def serve(self) -> None:
        """Occupy one slot until nothing is eligible; blocks."""

    def prime_metrics(self) -> None:
        """Have the counters start at 0."""

    def drain(self) -> None:
        """Let go of everything; returns at once."""

    def wait_drained(self, timeout: float) -> bool:
        """Whether everything was let go of within ``timeout`` seconds."""


_carriers: list[Carrier] = []


def install(carrier: Carrier) -> None:
    """Make ``carrier`` the one of this process. Only worker processes have one."""
    _carriers[:] = [carrier]


def carrier() -> Carrier | None:
    """The carrier of this process, if it is a worker."""
    return _carriers[0] if _carriers else None
