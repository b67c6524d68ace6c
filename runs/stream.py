"""A run's live stream (server-sent events): a small ASGI application beside Django.

It authenticates in a bounded thread pool, gives the database connection back, and then streams
without holding a thread or a connection: one Valkey subscription a process feeds all followers.
Journaled events carry ``id: <seq>`` and resume with ``Last-Event-ID``; what pub/sub lost is read
from the journal. Token deltas carry no id and are not repeated.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from http.cookies import SimpleCookie
from typing import Any

from django.contrib.sessions.backends.db import SessionStore

from runs import services
from runs.bus import event_json
from runs.database import Units
from runs.entries import Event, Kind
from runs.hub import Hub, News
from runs.journal import read
from station.accounts import principals
from station.accounts.models import User
from station.config import current
from station.core.errors import StationError, Unauthenticated
from station.core.principal import Principal
from station.observe.drain import draining
from station.rest.problems import problem_of

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_KEEPALIVE = 15.0
_PAGE = 200
_THREADS = 4
_RETRY_MS = 2000
_END = object()


class _Shared:
    """What the streams of one process and loop share."""

    def __init__(self) -> None:
        self.units = Units(threads=_THREADS)
        self.hub = Hub(current().redis.url.get_secret_value())


_shared: dict[asyncio.AbstractEventLoop, _Shared] = {}


def _shared_here() -> _Shared:
    loop = asyncio.get_running_loop()
    if loop not in _shared:
        _shared[loop] = _Shared()
    return _shared[loop]


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """``GET /api/v1/runs/{id}/stream``."""
    shared = _shared_here()
    headers = {key.decode("latin-1").lower(): v.decode("latin-1") for key, v in scope["headers"]}
    try:
        if scope["method"] != "GET":
            await _refuse(send, 405, {"title": "Method not allowed", "code": "method_not_allowed"})
            return
        run_id = scope["path"].removesuffix("/").split("/")[-2]
        after = _position(headers)
        stream = _Stream(shared, headers, run_id, after)
        await stream.admit()
    except StationError as error:
        status, body = problem_of(error)
        await _refuse(send, status, body)
        return
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache, no-transform"),
                (b"x-accel-buffering", b"no"),
            ],
        }
    )
    gone = asyncio.create_task(_disconnected(receive))
    try:
        async with contextlib.aclosing(stream.chunks(gone)) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except OSError:
        return  # the follower left in the middle of a chunk
    finally:
        gone.cancel()


class _Stream:
    """One follower of one run."""

    def __init__(
        self, shared: _Shared, headers: Mapping[str, str], run_id: str, after: int
    ) -> None:
        self._shared, self._headers, self._wanted, self._last = shared, headers, run_id, after
        self._run_id = 0
        self._ended = False

    async def admit(self) -> None:
        """Check, again and again while the stream lasts, that the follower may see the run."""

        def check() -> int:
            return services.get(_principal(self._headers), self._wanted).pk

        self._run_id = await self._shared.units.run(check)

    async def chunks(self, gone: asyncio.Task[None]) -> AsyncGenerator[bytes, None]:
        async with self._shared.hub.follow(self._run_id) as queue:
            yield f"retry: {_RETRY_MS}\n\n".encode()
            async for chunk in self._missed():
                yield chunk
            while not self._ended and not gone.done():
                message = await self._next(queue, gone)
                if message is _END:
                    return
                if message is None:
                    try:
                        await self.admit()
                    except StationError:
                        return
                    yield b": keep-alive\n\n"
                    async for chunk in self._missed():
                        yield chunk
                else:
                    async for chunk in self._live(json.loads(str(message))):
                        yield chunk

    async def _next(self, queue: News, gone: asyncio.Task[None]) -> object:
        """The next message; ``None`` when it is time to look at the journal; ``_END`` to stop."""
        with contextlib.suppress(asyncio.QueueEmpty):
            return queue.get_nowait()
        getter = asyncio.ensure_future(queue.get())
        drain = asyncio.ensure_future(draining.wait())
        try:
            done, _ = await asyncio.wait(
                {getter, gone, drain}, timeout=_KEEPALIVE, return_when=asyncio.FIRST_COMPLETED
            )
            if gone in done or drain in done:
                return _END
            return getter.result() if getter in done else None
        finally:
            getter.cancel()
            drain.cancel()

    async def _live(self, message: dict[str, Any]) -> AsyncIterator[bytes]:
        if "delta" in message:
            yield f"event: delta\ndata: {json.dumps(message)}\n\n".encode()
            return
        seq = message["seq"]
        if seq == self._last + 1 and "kind" in message:
            yield self._event(seq, message["kind"], message)
        elif seq > self._last:
            async for chunk in self._missed():
                yield chunk

    async def _missed(self) -> AsyncIterator[bytes]:
        """Everything journaled behind what was sent, in pages."""
        while True:
            events = await self._shared.units.run(self._page)
            for event in events:
                yield self._event(event.seq, event.kind.value, event_json(event))
            if len(events) < _PAGE:
                return

    def _page(self) -> list[Event]:
        return read(self._run_id, after=self._last, limit=_PAGE)

    def _event(self, seq: int, kind: str, body: dict[str, Any]) -> bytes:
        self._last = seq
        self._ended = self._ended or kind == Kind.FINISHED
        return f"id: {seq}\nevent: {kind}\ndata: {json.dumps(body, default=str)}\n\n".encode()


def _principal(headers: Mapping[str, str]) -> Principal:
    scheme, _, credential = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return principals.for_api_key(credential)
    morsel = SimpleCookie(headers.get("cookie", "")).get("sessionid")
    if morsel is not None:
        session = SessionStore(session_key=morsel.value)
        user = User.objects.filter(pk=session.get("_auth_user_id", 0), is_active=True).first()
        if user and session.get("_auth_user_hash") == user.get_session_auth_hash():
            return principals.for_user(user)
    raise Unauthenticated(
        "A run's stream needs an API key or a session.", fix="Send Authorization: Bearer stn_…"
    )


def _position(headers: Mapping[str, str]) -> int:
    """Where to go on: the last event the follower has. Junk means from the start."""
    text = headers.get("last-event-id", "")
    return int(text) if text.isdecimal() and len(text) < 10 else 0


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(send: Send, status: int, body: Mapping[str, Any]) -> None:
    headers = [(b"content-type", b"application/problem+json")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
