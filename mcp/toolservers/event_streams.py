"""Server-sent events, passed on message by message: bounded, and without what the SDK acts upon.

The SDK bounds one event, not how many there are, nor the bytes between them. And it resumes a
broken stream when and as often as the server likes, also for a caller who has given up.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import httpx2

from toolservers.patience import Patience
from toolservers.stdio_transport import MESSAGES_PER_REQUEST
from toolservers.surrogates import whole_characters

EVENT_STREAM = "text/event-stream"
PAUSE = 1.0
"""Seconds before a stream is resumed, unless the server says otherwise: between these."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
LONGEST_EVENT_ID = 1_000

Resume = Callable[[str], Awaitable[httpx2.Response]]


class TooMuch(httpx2.StreamError):
    """The server sent more than Station accepts."""


class Allowance:
    """What a server may send before it must have been asked something again."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.renew()

    def renew(self) -> None:
        self._bytes, self._messages = self._size, MESSAGES_PER_REQUEST

    def take(self, *, size: int = 0, messages: int = 0) -> None:
        """Raises :class:`TooMuch` when it is used up."""
        self._bytes -= size
        self._messages -= messages
        if self._bytes < 0:
            raise TooMuch(f"it sent more than {self._size} bytes for one request")
        if self._messages < 0:
            raise TooMuch(f"it sent more than {MESSAGES_PER_REQUEST} messages for one request")


class Frames(httpx2.AsyncByteStream):
    """A body made by a generator."""

    def __init__(self, frames: AsyncGenerator[bytes]) -> None:
        self._frames = frames

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for frame in self._frames:
            yield frame

    async def aclose(self) -> None:
        await self._frames.aclose()


def frame(message: str, *, event: str = "message") -> bytes:
    """The bytes of an event."""
    lines = "".join(f"data: {line}\n" for line in message.split("\n"))
    return whole_characters(f"event: {event}\n{lines}\n".encode())


async def events(
    response: httpx2.Response, allowance: Allowance, *, limit: int
) -> AsyncGenerator[httpx2.ServerSentEvent]:
    """The events of a stream, each of at most ``limit`` bytes.

    Raises:
        TooMuch: one is larger, or the allowance is used up.
        httpx2.HTTPError: the connection failed.
    """
    stream = response.stream
    assert isinstance(stream, httpx2.AsyncByteStream)

    async def counted() -> AsyncGenerator[bytes]:
        async for chunk in stream:
            allowance.take(size=len(chunk))
            yield chunk

    # Events are UTF-8, whatever the server's own headers say of them.
    source = httpx2.Response(
        200,
        headers={"content-type": EVENT_STREAM},
        stream=Frames(counted()),
        request=response.request,
    )
    try:
        async for event in httpx2.EventSource(source, max_event_size=limit):
            allowance.take(messages=1)
            yield event
    except httpx2.SSEError:
        raise TooMuch(f"it sent a message of more than {limit} bytes") from None


async def answer(
    response: httpx2.Response,
    *,
    limit: int,
    patience: Patience,
    resume: Resume,
    too_much: Callable[[TooMuch], object],
) -> AsyncGenerator[bytes]:
    """The messages of the stream that answers one call, of ``limit`` bytes in all.

    A stream that ended early is resumed as the protocol has it. One that cannot be just ends. After
    one that said too much comes ``too_much(error)``, a JSON-RPC error.
    """
    allowance = Allowance(limit)
    try:
        while True:
            last_id, pause = "", PAUSE
            source = events(response, allowance, limit=limit)
            try:
                while True:
                    async with patience.waits():
                        event = await anext(source, None)
                    if event is None:
                        break
                    last_id = event.id or last_id
                    pause = pause if event.retry is None else event.retry / 1000
                    if event.event == "message" and event.data:
                        yield frame(event.data)
            except TooMuch as error:
                yield frame(json.dumps(too_much(error)))
                return
            except httpx2.HTTPError:
                pass
            await response.aclose()
            if not last_id or not last_id.isprintable() or len(last_id) > LONGEST_EVENT_ID:
                return
            async with patience.waits():
                await asyncio.sleep(min(max(pause, SHORTEST_PAUSE), LONGEST_PAUSE))
                response = await resume(last_id)
    except (TimeoutError, httpx2.HTTPError):
        return
    finally:
        await response.aclose()
