"""Free TCP ports on the loopback address."""

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
LOWEST = 10_240
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on right now.

    It is picked below the range from which the kernel serves outgoing connections, so that no
    client takes it between now and the bind, nor while a service restarts. Another process may
    still be quicker: callers retry on "address in use".
    """
    highest = _first_ephemeral()
    for _ in range(100):
        port = random.randrange(LOWEST, highest)  # noqa: S311 - spread, not secrecy
        if is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could bind the port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _first_ephemeral() -> int:
    try:
        first = int(EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 32_768
    return max(first, LOWEST + 1_000)
