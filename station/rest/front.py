"""The first thing a request meets: who answers it, and what fails before anyone does."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from django.db import connections

from station.core.errors import StationError
from station.observe import endpoints
from station.observe.drain import draining
from station.observe.metrics import start_sampling
from station.observe.requests import HEADER, UNMATCHED, Answering, header
from station.rest.problems import CONTENT_TYPE, bug, headers_of, problem_of
from station.rest.threads import BodyTooSlow, ClientGone

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_STREAM = re.compile(r"/api/v1/runs/[^/]+/stream/?")
_STREAM_ROUTE = "/api/v1/runs/{id}/stream"


class Front:
    """Sends each request where it belongs, and answers what fails on the way there."""

    def __init__(self, *, site: App, streams: App) -> None:
        self._site, self._streams = site, streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI 3 application for ``http`` and ``lifespan``."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] != "http":
            raise NotImplementedError(scope["type"])  # gunicorn refuses the upgrade
        elif scope["path"] in endpoints.PATHS:
            await endpoints.application(scope, receive, send)
        elif _STREAM.fullmatch(scope["path"]):
            await self._stream(scope, receive, send)
        else:
            await self._page(scope, receive, send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = _answering(scope)
        answer = _Watched(send, answering.request_id)
        try:
            await self._streams(scope, receive, answer)
        except Exception as error:  # noqa: BLE001 - a bug in a stream is an answer, not a crash
            await _problem(answer, bug(error))
        finally:
            answering.done(route=_STREAM_ROUTE, status=answer.status or 499, stream=True)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Watched(send)
        try:
            await self._site(scope, receive, answer)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - what Django did not answer itself
            answering = _answering(scope)
            answer.request_id = answering.request_id
            if isinstance(error, StationError):
                status, body = problem_of(error)
                if isinstance(error, BodyTooSlow):
                    body["status"] = status = 408
            else:
                body = bug(error)
                status = 500
            await _problem(answer, body)
            answering.done(route=UNMATCHED, status=status)


class _Watched:
    """``send``, remembering the status that went out."""

    def __init__(self, send: Send, request_id: str = "") -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.request_id:
                identity = (HEADER.lower().encode(), self.request_id.encode())
                message = {**message, "headers": [*message["headers"], identity]}
        await self._send(message)


async def _problem(answer: _Watched, body: dict[str, Any]) -> None:
    if answer.status:
        return  # too late; gunicorn closes the connection of an unfinished answer
    content = json.dumps(body).encode()
    headers = {
        "Content-Type": CONTENT_TYPE,
        "Content-Length": str(len(content)),
        **headers_of(body["status"], body),
    }
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await answer({"type": "http.response.start", "status": body["status"], "headers": encoded})
    await answer({"type": "http.response.body", "body": content})


def _answering(scope: Scope) -> Answering:
    client = scope.get("client") or ("",)
    return Answering(
        method=scope["method"],
        path=scope["path"],
        given_id=header(scope["headers"], HEADER.lower()),
        client=client[0],
    )


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            start_sampling()
            await send({"type": "lifespan.startup.complete"})
        else:
            draining.set()
            for alias in connections:
                connections[alias].close_pool()  # type: ignore[attr-defined]
            await send({"type": "lifespan.shutdown.complete"})
            return
