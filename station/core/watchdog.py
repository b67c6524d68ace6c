"""The end of a process whose event loop stands still.

Heartbeats, time-outs, signals and probes of such a process still look well, or wait for a loop that
never turns. The watch is a thread of C that needs no interpreter lock, so that it also ends what a
single call holds up (a regular expression, say).
"""

import asyncio
import faulthandler

STANDSTILL = 60.0
"""Seconds. No load makes a loop wait so long; a machine that was suspended may."""
_STDERR = 2


async def keep_watch(seconds: float = STANDSTILL) -> None:
    """Have this process end with code 1 once its loop has not turned for so many ``seconds``.

    Says on standard error what each thread was doing. Goes on until it is cancelled.
    """
    try:
        while True:
            faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)
            await asyncio.sleep(seconds / 10)
    finally:
        faulthandler.cancel_dump_traceback_later()
