"""The end of a process that was told to stop, even if something in it does not let go."""

import os
import threading

import structlog

_log = structlog.get_logger(__name__)
LATEST_EXIT = 24.0
"""Seconds from the signal: whoever stops Station's processes loses patience after 25."""
_TO_SAY_SO = 1.0


def exit_at_the_latest(seconds: float = LATEST_EXIT) -> None:
    """Have this process end with code 1 in ``seconds``, unless it has ended by itself."""
    guard = threading.Timer(seconds, _exit, args=[seconds])
    guard.daemon = True
    guard.start()


def _exit(seconds: float) -> None:
    # What does not let go may hold the log's lock: saying so must not be waited for.
    told = {"seconds": seconds, "fix": "Look for what it waited for in the lines above."}
    saying = threading.Thread(
        target=_log.error, args=["stopped_by_force"], kwargs=told, daemon=True
    )
    saying.start()
    saying.join(_TO_SAY_SO)
    os._exit(1)
