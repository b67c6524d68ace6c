"""A stdio server's standard error, as bounded, redacted lines."""

import time
from collections.abc import Callable

from toolservers.redaction import Redactor

LINE_LIMIT = 2_000
"""Characters of a line that are kept."""
BURST = 200
"""Lines taken at once; afterwards :data:`LINES_PER_SECOND`."""
LINES_PER_SECOND = 50.0


class StderrLines:
    """Cuts a byte stream into lines and hands them on, never faster than a reader could want.

    A line longer than :data:`LINE_LIMIT` is cut, its rest dropped. Lines beyond the rate are
    dropped and counted; the count is reported with the next line that passes, or at the end.
    """

    def __init__(
        self,
        emit: Callable[[str], None],
        redactor: Redactor,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._emit = emit
        self._redactor = redactor
        self._clock = clock
        # Enough is kept to recognise a secret that crosses the cut.
        self._keep = (LINE_LIMIT + redactor.longest) * 4
        self._partial = b""
        self._skipping = False
        self._tokens = float(BURST)
        self._refilled = clock()
        self._dropped = 0

    def feed(self, chunk: bytes) -> None:
        """Take what was read; emits the lines it completes."""
        self._refill()
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            if self._tokens < 1:
                # A flood: count the rest of the lines without looking at each.
                self._dropped += chunk.count(b"\n", start)
                last = chunk.rfind(b"\n") + 1
                self._partial, self._skipping = b"", False
                self._extend(chunk[last:])
                return
            self._extend(chunk[start:end])
            self._finish()
            start = end + 1
        self._extend(chunk[start:])

    def end(self) -> None:
        """The stream ended: emit what is left."""
        self._refill()
        if self._partial:
            self._finish()
        self._report_dropped()

    def _refill(self) -> None:
        now = self._clock()
        self._tokens = min(BURST, self._tokens + (now - self._refilled) * LINES_PER_SECOND)
        self._refilled = now

    def _extend(self, piece: bytes) -> None:
        if self._skipping:
            return
        self._partial += piece[: self._keep - len(self._partial)]
        self._skipping = len(self._partial) >= self._keep

    def _finish(self) -> None:
        line = (
            self._partial.decode("utf-8", "replace")
            .rstrip("\r")
            .replace("\x00", "\N{SYMBOL FOR NULL}")
        )
        self._partial, self._skipping = b"", False
        if self._tokens < 1:
            self._dropped += 1
            return
        self._tokens -= 1
        self._report_dropped()
        line = self._redactor.text(line)
        self._emit(line if len(line) <= LINE_LIMIT else f"{line[:LINE_LIMIT]} [cut]")

    def _report_dropped(self) -> None:
        if self._dropped:
            count, self._dropped = self._dropped, 0
            self._emit(f"[{count} lines dropped: too many at once]")
