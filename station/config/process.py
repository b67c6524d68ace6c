"""The configuration of this process: loaded once, the same for everyone."""

import threading

from station.config.loading import load
from station.config.schema import Config

_lock = threading.Lock()
_loaded: list[Config] = []


def current() -> Config:
    """The configuration of this process, loaded from its environment at the first call.

    Raises:
        ConfigError: it is not valid (and is tried anew at the next call).
    """
    with _lock:
        if not _loaded:
            _loaded.append(load())
        return _loaded[0]


def reset() -> None:
    """Forget it, so that the next :func:`current` loads anew. For tests."""
    with _lock:
        _loaded.clear()
