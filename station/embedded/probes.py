"""Ways to ask whether a supervised process is ready."""

import http.client
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

PROBE_TIMEOUT = 2.0


def tcp_ready(host: str, port: int) -> Callable[[], bool]:
    """Ready when something accepts connections there."""

    def probe() -> bool:
        try:
            socket.create_connection((host, port), timeout=PROBE_TIMEOUT).close()
        except OSError:
            return False
        return True

    return probe


def http_ready(url: str) -> Callable[[], bool]:
    """Ready when a plain-HTTP GET of the URL answers 2xx."""
    parts = urlsplit(url)
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"

    def probe() -> bool:
        connection = http.client.HTTPConnection(parts.netloc, timeout=PROBE_TIMEOUT)
        try:
            connection.request("GET", target)
            return 200 <= connection.getresponse().status < 300
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return probe
