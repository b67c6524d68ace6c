"""How long people stay logged in."""

import time
from typing import Any

from django.http import HttpRequest

from station.observe.metrics import SESSION_DURATION

_STARTED = "logged_in_at"


def began(request: HttpRequest | None, **_: Any) -> None:
    """Receiver of ``user_logged_in``."""
    if request is not None and hasattr(request, "session"):
        request.session[_STARTED] = time.time()


def ended(request: HttpRequest | None, **_: Any) -> None:
    """Receiver of ``user_logged_out``, which is sent before the session is emptied."""
    if request is not None and hasattr(request, "session"):
        started = request.session.get(_STARTED)
        if started is not None:
            SESSION_DURATION.observe(max(0.0, time.time() - started))
