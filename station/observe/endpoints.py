"""/health, /ready and /metrics: an ASGI application of its own, in front of Django.

No session, no authentication, no host check: probes and Prometheus ask by address. Neither says
anything secret.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from station.observe import exposition, health
from station.observe.requests import HEADER, Answering, header

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

PATHS = frozenset({"/health", "/ready", "/metrics"})
_JSON = "application/json"
_HEALTHY = json.dumps({"status": "ok"}).encode()
_scrapes = ThreadPoolExecutor(2, thread_name_prefix="station-metrics")


async def application(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer one of :data:`PATHS`."""
    answering = Answering(
        method=scope["method"],
        path=scope["path"],
        given_id=header(scope["headers"], HEADER.lower()),
    )
    headers: list[tuple[bytes, bytes]] = [
        (b"cache-control", b"no-store"),
        (HEADER.lower().encode(), answering.request_id.encode()),
    ]
    if scope["method"] in ("GET", "HEAD"):
        status, content_type, body = await _answer(scope["path"])
    else:
        status, content_type = 405, "application/problem+json"
        body = json.dumps({"title": "Method Not Allowed", "status": 405}).encode()
        headers.append((b"allow", b"GET, HEAD"))
    headers += [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
    answering.done(route=scope["path"], status=status, probe=True)


async def _answer(path: str) -> tuple[int, str, bytes]:
    if path == "/health":
        return 200, _JSON, _HEALTHY
    if path == "/ready":
        report = await health.report()
        return (200 if report.ready else 503), _JSON, json.dumps(report.public()).encode()
    loop = asyncio.get_running_loop()
    body = await loop.run_in_executor(_scrapes, exposition.exposition)
    return 200, exposition.CONTENT_TYPE, body
