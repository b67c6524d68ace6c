"""Django behind ASGI: each request is answered by one thread of a bounded pool.

Django's own ASGI handler starts a thread for each request in flight and changes threads at each
synchronous middleware. Here the body is read on the loop (bounded in size and time), then all of
Django runs in one thread, as under WSGI, and gives its database connection back before the answer
travels. However many clients wait, there are no more threads, and so connections, than the pool
was given.
"""

import asyncio
import contextvars
import io
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from django.core import signals
from django.core.handlers.asgi import ASGIRequest, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.http import HttpResponse, HttpResponseBase
from django.urls import set_script_prefix

from station.core.errors import InvalidInput, StationError, Unavailable
from station.rest.parsers import too_large

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

BODY_SECONDS = 60.0
"""Longest time a request may take to send its body."""
QUEUE_SECONDS = 20.0
"""Longest wait for a thread."""
_DISCARDED = 32 << 20
"""A refused body is read up to here, so that the client reads the refusal instead of a reset."""
_WHOLE = 1 << 20
_CHUNK_SECONDS = 60.0


class Busy(Unavailable):
    """All threads that answer requests are busy."""

    code = "overloaded"


class BodyTooSlow(StationError):
    """The request's body did not arrive in time."""

    code = "body_too_slow"


class ClientGone(Exception):
    """There is nobody to answer any more."""


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class ThreadedDjango(BaseHandler):
    """An ASGI application (HTTP only)."""

    def __init__(self, *, threads: int, max_body: int) -> None:
        """
        Args:
            threads: most requests in Django at once; each may hold a database connection.
            max_body: largest request body in bytes.
        """
        super().__init__()
        self.load_middleware()
        self._max_body = max_body
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="station-web")
        self._threads = threads
        self._free: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request.

        Raises:
            InputTooLarge, InvalidInput, BodyTooSlow, Busy: before Django saw it; nothing was sent.
            ClientGone: the client went away.
        """
        body = await self._body(scope, receive)
        loop = asyncio.get_running_loop()
        free = self._free.setdefault(loop, asyncio.Semaphore(self._threads))
        try:
            async with asyncio.timeout(QUEUE_SECONDS):
                await free.acquire()
        except TimeoutError:
            raise Busy(fix="Try again in a moment.", retry_after=2) from None

        def push(message: dict[str, Any]) -> None:
            """Called in the thread: hand a part of a long answer to the client, at its pace."""
            asyncio.run_coroutine_threadsafe(_sent(send, message), loop).result(_CHUNK_SECONDS)

        context = contextvars.copy_context()
        future = self._executor.submit(context.run, self._respond, scope, body, push)
        # The thread's end frees its place, also when the client goes and this task is cancelled.
        future.add_done_callback(lambda _: _freed(loop, free))
        answer = await asyncio.wrap_future(_uncancellable(future))
        if answer is not None:
            await send(_start(answer.status, answer.headers))
            await send({"type": "http.response.body", "body": answer.body})

    async def _body(self, scope: Scope, receive: Receive) -> io.BytesIO:
        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"0")
        size = int(announced) if announced.isdigit() else 0
        if size > self._max_body and (size > _DISCARDED or b"expect" in headers):
            raise too_large(self._max_body)
        body, total = io.BytesIO(), 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    chunk = message.get("body", b"")
                    total += len(chunk)
                    if total <= self._max_body:
                        body.write(chunk)
                    elif total > _DISCARDED:
                        raise too_large(self._max_body)
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise BodyTooSlow(f"The body did not arrive within {BODY_SECONDS:.0f} s.") from None
        if total > self._max_body:
            raise too_large(self._max_body)
        body.seek(0)
        return body

    def _respond(
        self, scope: Scope, body: io.BytesIO, push: Callable[[dict[str, Any]], None]
    ) -> _Answer | None:
        """All of Django, in this thread. ``None``: the answer was long and is sent already."""
        try:
            request = ASGIRequest(scope, body)
        except UnicodeDecodeError:
            raise InvalidInput("query", "is not UTF-8 text") from None
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        response = self.get_response(request)
        try:
            if isinstance(response, HttpResponse):
                return _Answer(
                    status=response.status_code,
                    headers=_headers(response),
                    body=response.content,
                )
            return _streamed(response, push)
        finally:
            response.close()  # ends the request: connections go back to the pool


def _streamed(response: HttpResponseBase, push: Callable[[dict[str, Any]], None]) -> _Answer | None:
    length = response.get("Content-Length", "")
    headers = _headers(response)
    if length.isdecimal() and int(length) <= _WHOLE:
        return _Answer(status=response.status_code, headers=headers, body=b"".join(response))
    push(_start(response.status_code, headers))
    for part in response:
        push({"type": "http.response.body", "body": part, "more_body": True})
    push({"type": "http.response.body", "body": b""})
    return None


def _start(status: int, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def _headers(response: HttpResponseBase) -> list[tuple[bytes, bytes]]:
    headers = [
        (name.lower().encode("ascii"), str(value).encode("latin-1"))
        for name, value in response.items()
    ]
    headers += [
        (b"set-cookie", cookie.output(header="").strip().encode("ascii"))
        for cookie in response.cookies.values()
    ]
    return headers


async def _sent(send: Send, message: dict[str, Any]) -> None:
    await send(message)


def _freed(loop: asyncio.AbstractEventLoop, free: asyncio.Semaphore) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(free.release)


def _uncancellable(future: "Future[_Answer | None]") -> "Future[_Answer | None]":
    """Mirrors ``future``; cancelling the mirror leaves the work and its clean-up alone."""
    mirror: Future[_Answer | None] = Future()
    mirror.set_running_or_notify_cancel()

    def reflect(done: "Future[_Answer | None]") -> None:
        error = done.exception()
        if error is None:
            mirror.set_result(done.result())
        else:
            mirror.set_exception(error)

    future.add_done_callback(reflect)
    return mirror
