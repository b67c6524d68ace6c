"""``python -m runs.scripted --scenario FILE [--host 127.0.0.1] [--port 0] [--die-with-parent]``.

Prints ``listening on http://HOST:PORT/v1`` once it accepts connections; SIGTERM and SIGINT end it
with exit code 0; a wrong scenario file or a taken port with 2 and one line on stderr.
"""

import argparse
import asyncio
import ctypes
import os
import signal
import sys
from pathlib import Path

from runs.scripted.scenario import Script
from runs.scripted.server import ScriptedServer
from station.core.errors import StationError

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask Linux for SIGTERM when the thread that started this process ends, however it ends."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent or parent == 1:
        raise SystemExit(0)  # it ended before we asked


async def serve(script: Script, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = ScriptedServer(script)
    port = await server.start(host, port)
    sys.stdout.write(f"listening on http://{host}:{port}/v1\n")
    sys.stdout.flush()
    await stop.wait()
    await server.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m runs.scripted", description="Plays a scripted model; no AI is asked."
    )
    parser.add_argument("--scenario", type=Path, default=Path(__file__).with_name("demo.yaml"))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument(
        "--die-with-parent", action="store_true", help="end when the starting process ends"
    )
    options = parser.parse_args()
    if options.die_with_parent:
        die_with_parent()
    try:
        asyncio.run(serve(Script.load(options.scenario), options.host, options.port))
    except (StationError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
