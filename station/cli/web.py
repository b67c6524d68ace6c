"""The web process: gunicorn with its ASGI worker, logging and stopping Station's way.

On SIGTERM the workers go on answering for ``api.drain_delay`` while /ready says 503, so that load
balancers look elsewhere, and event streams end with their retry hint. Then they close the port,
let what is in flight finish, and are gone within 25 s.
"""

import gc
import signal
import ssl
from collections.abc import Callable
from typing import Any

from gunicorn import glogging
from gunicorn.app.base import BaseApplication
from gunicorn.workers.gasgi import ASGIWorker
from setproctitle import setproctitle

from station.cli.prepare import prepare
from station.config import Config
from station.observe.drain import draining

_TITLE = "station web"
_GONE = 24
"""Seconds after SIGTERM at which the master kills what is left."""
_ANSWERED = 22
"""Seconds after SIGTERM at which workers stop waiting for requests in flight."""
_IDLE = 5
"""Seconds an idle connection is kept; stopping waits for them too."""
_RECYCLED, _JITTER = 50_000, 10_000
"""A worker is replaced after so many requests, where others can take its place meanwhile."""


def run_web(config: Config, *, port: int | None = None) -> int:
    """Serve until SIGTERM; return the exit code.

    Args:
        config: the configuration of this process.
        port: listen here instead of on ``api.port``.
    """
    prepare("web")
    import station.asgi  # noqa: PLC0415 - loaded once here, shared by the forked workers

    Worker.drain_delay = config.api.drain_delay
    server = _Server(station.asgi.application, _settings(config, port or config.api.port))
    try:
        server.run()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


class Worker(ASGIWorker):  # type: ignore[misc]
    """gunicorn's ASGI worker that drains before it stops."""

    drain_delay = 0.0

    def handle_exit_signal(self) -> None:
        """SIGTERM: say so, go on for a while, stop."""
        if draining.is_set():
            return
        draining.set()
        self.cfg.set("graceful_timeout", max(1, int(_ANSWERED - self.drain_delay)))
        self.loop.call_later(self.drain_delay, self._stop)

    def _stop(self) -> None:
        self.alive = False

    async def _shutdown(self) -> None:
        """Also reached by a worker that has served its share of requests."""
        draining.set()
        await super()._shutdown()


class Log(glogging.Logger):  # type: ignore[misc]
    """gunicorn's own words, by way of Station's log; requests are logged elsewhere."""

    def setup(self, cfg: Any) -> None:
        """Called instead of adding handlers."""
        self.cfg = cfg
        self.error_log.propagate = True
        self._access_log_enabled = False

    def reopen_files(self) -> None:
        """There are none."""


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, application: Callable[..., Any], settings: dict[str, Any]) -> None:
        self._application, self._settings = application, settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Callable[..., Any]:
        return self._application


def _settings(config: Config, port: int) -> dict[str, Any]:
    host = f"[{config.api.host}]" if ":" in config.api.host else config.api.host
    several = config.api.workers > 1
    settings: dict[str, Any] = {
        "bind": f"{host}:{port}",
        "workers": config.api.workers,
        "worker_class": Worker,
        "asgi_loop": "asyncio",
        "asgi_lifespan": "on",
        "preload_app": True,
        "proc_name": _TITLE,
        "logger_class": Log,
        "control_socket_disable": True,
        "keepalive": _IDLE,
        "graceful_timeout": _GONE,
        "max_requests": _RECYCLED if several else 0,
        "max_requests_jitter": _JITTER if several else 0,
        "pre_fork": _before_fork,
        "post_fork": _after_fork,
    }
    if config.tls.enabled:
        settings |= {
            "certfile": str(config.tls.cert_path),
            "keyfile": str(config.tls.key_path),
            "ssl_context": _tls,
        }
    return settings


def _before_fork(_arbiter: Any, _worker: Any) -> None:
    setproctitle(_TITLE)  # gunicorn has just named it otherwise
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, every page that is shared


def _after_fork(_arbiter: Any, _worker: Any) -> None:
    # Until it listens to signals itself it has the master's handler, which would swallow them: a
    # server that is stopped at its start would wait for it until it is killed.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    setproctitle(f"{_TITLE}: worker")


def _tls(_settings: Any, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    context = default()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
