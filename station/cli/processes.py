"""The long-running processes: one function each, called by the command of the same name.

They are called in a process of their own, before anything else was imported, and return its exit
code.
"""

import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

from setproctitle import setproctitle

from station.cli.prepare import prepare
from station.config import current
from station.core.stopping import exit_at_the_latest


def run_worker() -> int:
    """Claim and carry runs until SIGTERM; then hand everything back within 25 s."""
    config = prepare("worker")
    from runs import slots  # noqa: PLC0415
    from runs.host import Host  # noqa: PLC0415 - it loads MCP, for workers only
    from station.celery import app  # noqa: PLC0415

    slots.install(Host(config))
    app.worker_main(
        ["--quiet", "worker", "--loglevel", "INFO", "--without-gossip", "--without-mingle",
         "--without-heartbeat", "--queues", "station", "--hostname", f"{os.getpid()}@%h"]
    )  # fmt: skip
    return 0


def run_keeper() -> int:
    """Call the keeper's jobs until SIGTERM."""
    prepare("keeper")
    from station.ops import keeper  # noqa: PLC0415

    keeper.run(_stop_event())
    return 0


def run_web() -> int:
    """Serve the admin and the REST API until SIGTERM."""
    from station.cli import web  # noqa: PLC0415

    return web.run_web(current())


def run_ssh() -> int:
    """Serve the SSH gateway until SIGTERM."""
    config = prepare("ssh")
    from sshgw import server  # noqa: PLC0415

    server.serve(config, _stop_event())
    return 0


def run_mcp_serve() -> int:
    """Serve the MCP gateway over HTTP until SIGTERM."""
    config = prepare("mcp")
    from mcpgw import http  # noqa: PLC0415

    http.serve(config, _stop_event())
    return 0


def run_mcp_stdio(key_file: Path | None = None) -> int:
    """Serve one local MCP client over standard input and output, with the key in ``key_file``."""
    prepare("mcp stdio")
    from mcpgw import stdio  # noqa: PLC0415

    stdio.serve(key_file)
    return 0


def migrate() -> int:
    """Bring the database up to this version."""
    prepare("migrate")
    from station.ops import migrating  # noqa: PLC0415

    migrating.run()
    return 0


def run_server(roles: Sequence[str]) -> int:
    """Run the processes of ``roles`` under one supervisor until SIGTERM."""
    from station.embedded.local import station_children  # noqa: PLC0415
    from station.embedded.supervisor import Supervisor  # noqa: PLC0415

    config = current()
    setproctitle("station server")
    ports = {"web": config.api.port, "ssh": config.ssh.port, "mcp": config.mcp.port}
    children = station_children(roles, ports, tls=config.tls.enabled)
    return Supervisor(children, stop_together=True).run()


def _stop_event() -> threading.Event:
    """Set by SIGTERM and SIGINT. Whatever then still waits for a database, say, is cut short."""
    stop = threading.Event()

    def end(*_: object) -> None:
        if not stop.is_set():
            exit_at_the_latest()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return stop
