"""The HTTP transports: the SDK's clients over a connection pool that fails request by request.

The SDK ends a whole session, and every call in flight on it, when one HTTP request fails. Here
each failure becomes the error of the request it belongs to, and tells what became of that (see
``fates``). Bodies are bounded, and nothing is read once nobody waits for it.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import httpx2
import mcp_types as types
from pydantic import ValidationError

from station.core.retry_after import retry_after
from toolservers.event_streams import (
    EVENT_STREAM,
    Allowance,
    Frames,
    TooMuch,
    answer,
    events,
    frame,
)
from toolservers.fates import Fate, sealed
from toolservers.http_connections import Connections
from toolservers.patience import Patience, current
from toolservers.surrogates import whole_characters

NOTICE_TIMEOUT = 2.0
"""Seconds for what no caller waits for: notifications, ending the session."""
LEGACY_EVENT = 1024 * 1024
"""Bytes of one legacy event that the SDK accepts."""
ERROR_BODY = 4_096
"""Bytes of a failed response that are looked at."""

# The SDK writes these members in this order; notifications and answers of ours have no such start.
_CALL = re.compile(rb'\{"jsonrpc":"2\.0","id":(?:\d+|"[^"]*"),"method":')
_NOT_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
)


class Misbehaved(httpx2.StreamError):
    """What came is no answer."""


class CallTransport(httpx2.AsyncBaseTransport):
    """One session's HTTP: nothing raises out of it, grows in it, or outlasts its caller.

    Args:
        body_limit: bytes of a JSON body, or of an event, that are accepted.
    """

    def __init__(self, *, body_limit: int) -> None:
        self._inner = Connections()
        self._body_limit = body_limit
        self._reached = False
        self._unreachable: Exception | None = None

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self._unreachable is not None:
            # The SDK goes on with the handshake's second question whatever became of the first.
            return _failed(self._unreachable)
        if request.method == "GET":
            # The stream for messages outside of requests: Station listens to none, so the
            # connection (one a session, for ever) is not opened.
            return httpx2.Response(405, request=request)
        if request.method != "POST" or _CALL.match(request.content) is None:
            await self._notify(request)
            return httpx2.Response(202, request=request)
        caller = current()
        try:
            async with caller.waits():
                response = await self._inner.handle_async_request(request)
                self._reached = True
                return await self._answer(response, caller)
        except (httpx2.HTTPError, httpx2.StreamError, TimeoutError) as error:
            if isinstance(error, _NOT_SENT) and not self._reached:
                self._unreachable = error.with_traceback(None)
            return _failed(error)

    async def _notify(self, request: httpx2.Request) -> None:
        with contextlib.suppress(httpx2.HTTPError, httpx2.StreamError, TimeoutError):
            async with asyncio.timeout(NOTICE_TIMEOUT):
                response = await self._inner.handle_async_request(request)
                await _read(response, ERROR_BODY, strict=False)

    async def _answer(self, response: httpx2.Response, caller: Patience) -> httpx2.Response:
        request, status = response.request, response.status_code
        if status >= 300:
            return _refusal(response, await _read(response, self._body_limit, strict=False))
        if problem := _problem(response, EVENT_STREAM, "application/json"):
            await response.aclose()
            raise Misbehaved(problem)
        if _content_type(response) != EVENT_STREAM:
            body = whole_characters(await _read(response, self._body_limit, strict=True))
            return httpx2.Response(status, headers=_plain(response), content=body, request=request)

        async def resume(last_id: str) -> httpx2.Response:
            return await self._resumed(request, last_id)

        messages = answer(
            response,
            limit=self._body_limit,
            patience=caller,
            resume=resume,
            too_much=lambda error: sealed(Fate.WRONG, str(error)),
        )
        return httpx2.Response(
            status, headers=_plain(response), stream=Frames(messages), request=request
        )

    async def _resumed(self, request: httpx2.Request, last_id: str) -> httpx2.Response:
        headers = request.headers.copy()
        for name in ("content-length", "content-type", "transfer-encoding"):
            headers.pop(name, None)
        headers["last-event-id"] = last_id
        again = httpx2.Request("GET", request.url, headers=headers, extensions=request.extensions)
        response = await self._inner.handle_async_request(again)
        if response.status_code != 200 or _problem(response, EVENT_STREAM):
            await response.aclose()
            raise httpx2.RemoteProtocolError("the answer cannot be resumed")
        return response


class LegacyTransport(httpx2.AsyncBaseTransport):
    """One session's HTTP over legacy SSE, bounded as :class:`CallTransport` is.

    Args:
        patience: seconds a POST may take; its answer comes as an event.
        size: bytes the server may send between two requests.
        on_failure: told why a request failed, because the SDK would leave its caller waiting.
    """

    def __init__(
        self, *, patience: float, size: int, on_failure: Callable[[Exception], None]
    ) -> None:
        self._inner = Connections()
        self._patience = patience
        self._allowance = Allowance(size)
        self._on_failure = on_failure

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            if request.method == "GET":
                return await self._listen(request)
            async with asyncio.timeout(self._patience):
                return await self._post(request)
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            self._on_failure(error)
            raise
        except TimeoutError:
            late = httpx2.ReadTimeout(f"it did not take a message within {self._patience:g} s")
            self._on_failure(late)
            raise late from None

    async def _listen(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        problem = _status(response) if response.status_code != 200 else ""
        if problem := problem or _problem(response, EVENT_STREAM):
            await response.aclose()
            raise httpx2.RemoteProtocolError(problem)
        return httpx2.Response(
            200, headers=_plain(response), stream=Frames(self._events(response)), request=request
        )

    async def _events(self, response: httpx2.Response) -> AsyncGenerator[bytes]:
        try:
            async for event in events(response, self._allowance, limit=LEGACY_EVENT):
                yield frame(event.data, event=event.event)
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            self._on_failure(error)
            raise
        finally:
            await response.aclose()

    async def _post(self, request: httpx2.Request) -> httpx2.Response:
        if _CALL.match(request.content):
            self._allowance.renew()
        response = await self._inner.handle_async_request(request)
        if response.status_code >= 300:
            await response.aclose()
            raise httpx2.RemoteProtocolError(_status(response))
        await _read(response, ERROR_BODY, strict=False)
        return httpx2.Response(response.status_code, headers=_plain(response), request=request)


async def _read(response: httpx2.Response, limit: int, *, strict: bool) -> bytes:
    stream = response.stream
    assert isinstance(stream, httpx2.AsyncByteStream)
    body = bytearray()
    try:
        async for chunk in _chunks(stream):
            body += chunk
            if len(body) > limit:
                if strict:
                    raise TooMuch(f"the answer exceeds {limit} bytes")
                break
    finally:
        await response.aclose()
    return bytes(body)


async def _chunks(stream: httpx2.AsyncByteStream) -> AsyncIterator[bytes]:
    async for chunk in stream:
        yield chunk


def _refusal(response: httpx2.Response, body: bytes) -> httpx2.Response:
    request, status = response.request, response.status_code
    if status == 404 and "mcp-session-id" in request.headers:
        return _failure(Fate.SESSION_GONE, "the server has forgotten the session")
    said, wait = _status(response), retry_after(response.headers)
    if status == 429:
        return _failure(Fate.TURNED_AWAY, said, wait=wait)
    # Not even 503 says that nothing happened: proxies answer it after they lost a server that was
    # at work, and frameworks answer 408 when they lose patience with their own.
    failed = status >= 500 or status == 408
    if _is_error_for(request if failed else None, response, body):
        return httpx2.Response(status, headers=_plain(response), content=body, request=request)
    return _failure(Fate.LOST if failed else Fate.REFUSED, said, wait=wait)


def _status(response: httpx2.Response) -> str:
    status = response.status_code
    if response.has_redirect_location:
        means = ": it redirects to another server, or in a circle; correct the server's URL"
    elif status in (401, 403):
        means = ": check the server's credentials"
    elif status == 429:
        means = ": it is asked too often"
    else:
        means = ": it is overloaded, or a proxy could not reach it" if status == 503 else ""
    return f"HTTP {status}{means}"


def _problem(response: httpx2.Response, *kinds: str) -> str:
    """Why this is no answer of one of these content types, if it is none."""
    if response.headers.get("content-encoding", "identity") != "identity":
        return "it compressed what it was asked not to"
    if response.status_code != 200 or _content_type(response) not in kinds:
        said = _content_type(response)[:100] or "nothing"
        return f"it answered HTTP {response.status_code} with {said} instead of {kinds[-1]}"
    return ""


def _is_error_for(request: httpx2.Request | None, response: httpx2.Response, body: bytes) -> bool:
    """The body is a JSON-RPC error, the very request's if one is given."""
    if _content_type(response) != "application/json":
        return False
    try:
        message = types.jsonrpc_message_adapter.validate_json(body, by_name=False)
    except ValidationError:
        return False
    if not isinstance(message, types.JSONRPCError):
        return False
    return request is None or message.id == json.loads(request.content)["id"]


def _failed(error: Exception) -> httpx2.Response:
    match error:
        case Misbehaved() | TooMuch():
            return _failure(Fate.WRONG, str(error))
        case TimeoutError():
            return _failure(Fate.LOST, "nobody waits for the answer any more")
        case _ if isinstance(error, _NOT_SENT):
            return _failure(Fate.NOT_SENT, f"cannot connect ({reason(error)})")
    return _failure(Fate.LOST, f"the connection failed ({reason(error)})")


def _failure(fate: Fate, message: str, *, wait: float | None = None) -> httpx2.Response:
    # Whatever the status was: the SDK would act upon a redirect, and has words of its own for 404.
    return httpx2.Response(400, json=sealed(fate, message, retry_after=wait))


def _content_type(response: httpx2.Response) -> str:
    value: str = response.headers.get("content-type", "")
    return value.partition(";")[0].strip().lower()


def _plain(response: httpx2.Response) -> list[tuple[bytes, bytes]]:
    dropped = (b"content-length", b"transfer-encoding", b"content-encoding", b"location")
    return [(name, value) for name, value in response.headers.raw if name.lower() not in dropped]


def reason(error: Exception) -> str:
    """What to say of it."""
    if isinstance(error, httpx2.ConnectTimeout):
        return "no connection in time"
    return str(error) or type(error).__name__
