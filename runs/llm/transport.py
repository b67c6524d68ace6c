"""The one HTTP client that model requests share."""

import math
from collections.abc import AsyncIterator

import httpx

from runs.llm.answer import MAX_ANSWER_BYTES, AnswerTooLarge

LONGEST_CONNECT = 10.0
"""Seconds. An answer may take long to begin; a connection does not."""


class _BoundedBody(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        total = 0
        async for part in self._inner:
            total += len(part)
            if total > MAX_ANSWER_BYTES:
                raise AnswerTooLarge
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedTransport(httpx.AsyncBaseTransport):
    """Bounds connecting and every response body, whichever library asks for it.

    Compressed bodies are refused: a small one could unfold to any size behind our back.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        timeout = request.extensions.get("timeout", {})
        if (timeout.get("connect") or math.inf) > LONGEST_CONNECT:
            request.extensions["timeout"] = {**timeout, "connect": LONGEST_CONNECT}
        response = await self._inner.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.stream.aclose()
            raise httpx.DecodingError("the answer is compressed though identity was asked for")
        response.stream = _BoundedBody(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def http_client(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    """A client whose answers are bounded; it follows no redirects, which could move the key."""
    return httpx.AsyncClient(
        transport=_BoundedTransport(transport),
        headers={"Accept-Encoding": "identity"},
        follow_redirects=False,
    )
