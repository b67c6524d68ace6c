"""The HTTP transports: the SDK's clients over a connection pool that fails request by request.

The SDK ends a whole session, and every call in flight on it, when one HTTP request fails. Here
each failure becomes the JSON-RPC error of the request it belongs to, with a code that tells
whether anything was sent. Bodies are bounded, no redirect leaves the origin, and each session has
its own headers and cookies although all share one TLS context (building one cost 20 of the 30 ms an
own client costs).
"""

import asyncio
import contextlib
import json
import logging
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import cache

import httpx2

from toolservers.definition import ServerDefinition
from toolservers.errors import ToolServerUnavailable
from toolservers.event_streams import (
    EVENT_STREAM,
    Allowance,
    Frames,
    TooMuch,
    answer,
    events,
    frame,
)
from toolservers.patience import Patience, current

NOT_SENT = -39001
"""Nothing reached the server."""
LOST = -39002
"""The request went out; what became of it is unknown."""
SESSION_GONE = -39003
"""The server does not know the session (any more); it did nothing."""
REFUSED = -39004
"""The server, or what is before it, turned the request away."""
WRONG = -39005
"""What came is no answer, or is larger than Station accepts."""

CONNECT_TIMEOUT = 10.0
NOTICE_TIMEOUT = 2.0
"""Seconds for what no caller waits for: notifications, ending the session."""
LEGACY_EVENT = 1024 * 1024
"""Bytes of one legacy event that the SDK accepts."""
MOST_COOKIES = 50
MOST_REDIRECTS = 3
ERROR_BODY = 4_096
"""Bytes of a failed response that are looked at."""

# The SDK writes these members in this order; notifications and answers of ours have no such start.
_CALL = re.compile(rb'\{"jsonrpc":"2\.0","id":(?:\d+|"[^"]*"),"method":')
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
)


@cache
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


def quiet_sdk_logs() -> None:
    """Silence the SDK's and the HTTP client's loggers in this process.

    They write URLs, session ids and pieces of answers, any of which can hold a secret, and every
    failure they know of reaches the caller as an error anyway.
    """
    for name in ("httpx2", "httpcore2", "mcp", "client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class Misbehaved(httpx2.StreamError):
    """What came is no answer."""


class CallTransport(httpx2.AsyncBaseTransport):
    """One session's HTTP: nothing raises out of it, grows in it, or outlasts its caller.

    Args:
        body_limit: bytes of a JSON body, or of an event, that are accepted.
    """

    def __init__(self, *, body_limit: int) -> None:
        self._inner = _Connections()
        self._body_limit = body_limit

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
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
                return await self._answer(response, caller)
        except (httpx2.HTTPError, httpx2.StreamError, TimeoutError) as error:
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
            body = await _read(response, self._body_limit, strict=True)
            return httpx2.Response(status, headers=_plain(response), content=body, request=request)

        async def resume(last_id: str) -> httpx2.Response:
            return await self._resumed(request, last_id)

        messages = answer(
            response,
            limit=self._body_limit,
            patience=caller,
            resume=resume,
            too_much=lambda error: _error(WRONG, str(error)),
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
        self._inner = _Connections()
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


class _Connections(httpx2.AsyncHTTPTransport):
    """The connections of a session; follows redirects within the origin, as from /mcp to /mcp/."""

    def __init__(self) -> None:
        super().__init__(
            verify=_tls(),
            # A call is a connection for as long as it takes; a cap here would let slow calls
            # starve the others. The pool's callers bound how many there are.
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=100, keepalive_expiry=15.0
            ),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        redirects = 0
        while True:
            response = await super().handle_async_request(request)
            response.request = request
            where = _moved_within_origin(response)
            if where is None or redirects == MOST_REDIRECTS:
                return response
            redirects += 1
            await response.aclose()
            request = httpx2.Request(
                request.method,
                where,
                headers=request.headers,
                stream=request.stream,
                extensions=request.extensions,
            )


def _moved_within_origin(response: httpx2.Response) -> httpx2.URL | None:
    """Where the same request is to be sent, if that is the server that was asked."""
    if response.status_code not in (307, 308) or not response.has_redirect_location:
        return None
    asked = response.request.url
    try:
        where = asked.join(response.headers["location"])
    except httpx2.InvalidURL:
        return None
    same = (where.scheme, where.host, where.port) == (asked.scheme, asked.host, asked.port)
    return where if same else None


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


def http_client(
    definition: ServerDefinition, transport: httpx2.AsyncBaseTransport
) -> httpx2.AsyncClient:
    """A client with the definition's headers that talks through ``transport``.

    Raises:
        ToolServerUnavailable: the URL or a header cannot be sent (permanent).
    """
    try:
        if any(_CONTROL.search(part) for item in definition.headers.items() for part in item):
            raise ValueError("control characters")
        url = httpx2.URL(definition.url)
        if url.scheme not in ("http", "https") or not url.host:
            raise ToolServerUnavailable(
                f"Tool server {definition.name}: the URL must begin with http:// or https://.",
                permanent=True,
            )
        client = httpx2.AsyncClient(
            transport=transport,
            # A compressed answer could be small on the wire and huge in memory.
            headers={"accept-encoding": "identity", **definition.headers},
            timeout=httpx2.Timeout(None, connect=min(CONNECT_TIMEOUT, definition.request_timeout)),
            # Neither ~/.netrc nor proxy variables of the worker are for tool servers.
            trust_env=False,
        )
    except (httpx2.InvalidURL, UnicodeError, ValueError, TypeError) as error:
        raise ToolServerUnavailable(
            f"Tool server {definition.name}: its URL or headers cannot be sent "
            f"({type(error).__name__}).",
            fix="Correct the URL and the headers; both must be printable ASCII.",
            permanent=True,
        ) from None

    async def forget_cookies(response: httpx2.Response) -> None:
        if len(client.cookies) > MOST_COOKIES:
            client.cookies.clear()

    client.event_hooks = {"response": [forget_cookies]}
    return client


async def _chunks(stream: httpx2.AsyncByteStream) -> AsyncIterator[bytes]:
    async for chunk in stream:
        yield chunk


def _refusal(response: httpx2.Response, body: bytes) -> httpx2.Response:
    request, status = response.request, response.status_code
    if status == 404 and "mcp-session-id" in request.headers:
        return _failure(SESSION_GONE, "the server has forgotten the session")
    if _content_type(response) == "application/json" and _is_jsonrpc_error(body):
        return httpx2.Response(status, headers=_plain(response), content=body, request=request)
    said = _status(response)
    if status in (429, 503):
        return _failure(NOT_SENT, said, status)
    if status >= 500:
        return _failure(LOST, said, status)
    # The SDK would follow a redirect: its status is not passed on.
    return _failure(REFUSED, said, max(status, 400))


def _status(response: httpx2.Response) -> str:
    status = response.status_code
    if response.has_redirect_location:
        means = ": it redirects to another server, or in a circle; correct the server's URL"
    elif status in (401, 403):
        means = ": check the server's credentials"
    else:
        means = ": the server is overloaded" if status in (429, 503) else ""
    return f"HTTP {status}{means}"


def _problem(response: httpx2.Response, *kinds: str) -> str:
    """Why this is no answer of one of these content types, if it is none."""
    if response.headers.get("content-encoding", "identity") != "identity":
        return "it compressed what it was asked not to"
    if response.status_code != 200 or _content_type(response) not in kinds:
        said = _content_type(response)[:100] or "nothing"
        return f"it answered HTTP {response.status_code} with {said} instead of {kinds[-1]}"
    return ""


def _is_jsonrpc_error(body: bytes) -> bool:
    try:
        parsed = json.loads(body)
    except ValueError:
        return False
    return isinstance(parsed, dict) and isinstance(parsed.get("error"), dict)


def _failed(error: Exception) -> httpx2.Response:
    match error:
        case Misbehaved() | TooMuch():
            return _failure(WRONG, str(error))
        case TimeoutError():
            return _failure(LOST, "nobody waits for the answer any more")
        case _ if isinstance(error, _NOT_SENT):
            return _failure(NOT_SENT, f"cannot connect ({reason(error)})")
    return _failure(LOST, f"the connection failed ({reason(error)})")


def _failure(code: int, message: str, status: int = 400) -> httpx2.Response:
    return httpx2.Response(status, json=_error(code, message))


def _error(code: int, message: str) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}


def _content_type(response: httpx2.Response) -> str:
    value: str = response.headers.get("content-type", "")
    return value.partition(";")[0].strip().lower()


def _plain(response: httpx2.Response) -> list[tuple[bytes, bytes]]:
    dropped = (b"content-length", b"transfer-encoding", b"content-encoding", b"location")
    return [(name, value) for name, value in response.headers.raw if name.lower() not in dropped]


def reason(error: Exception) -> str:
    """What to say of it."""
    return str(error) or type(error).__name__
