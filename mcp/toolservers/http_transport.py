"""The HTTP transports: the SDK's clients over a connection pool that fails request by request.

The SDK ends a whole session, and every call in flight on it, when one HTTP request fails. Here
each failure becomes the JSON-RPC error of the request it belongs to, with a code that tells
whether anything was sent. Bodies are bounded, and each session has its own headers and cookies
although all share one TLS context (building one cost 20 of the 30 ms an own client costs).
"""

import json
import logging
import re
import ssl
from collections.abc import AsyncIterator, Callable
from functools import cache

import httpx2

from toolservers.definition import ServerDefinition
from toolservers.errors import ToolServerUnavailable

NOT_SENT = -39001
"""Nothing reached the server."""
LOST = -39002
"""The request went out; what became of it is unknown."""
SESSION_GONE = -39003
"""The server does not know the session (any more); it did nothing."""
REFUSED = -39004
"""The server, or what is before it, turned the request away."""
TOO_LARGE = -39005
"""The answer is larger than Station accepts."""

CONNECT_TIMEOUT = 10.0
NOTICE_TIMEOUT = 3.0
"""Seconds for what no caller waits for: notifications, ending the session."""
ERROR_BODY = 4_096
"""Bytes of a failed response that are looked at."""

EVENT_STREAM = "text/event-stream"
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


class BodyTooLarge(httpx2.StreamError):
    """An HTTP body exceeded its limit."""


class CallTransport(httpx2.AsyncBaseTransport):
    """One session's HTTP: nothing raises out of it in streamable mode, nothing grows in it.

    Args:
        body_limit: bytes of a JSON body that are accepted.
        on_failure: legacy SSE only: told why a request failed, because there the SDK would
            leave its caller waiting.
    """

    def __init__(self, *, body_limit: int, on_failure: Callable[[str], None] | None = None) -> None:
        self._inner = httpx2.AsyncHTTPTransport(
            verify=_tls(),
            # A call is a connection for as long as it takes; a cap here would let slow calls
            # starve the others. The pool's callers bound how many there are.
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=100, keepalive_expiry=15.0
            ),
        )
        self._body_limit = body_limit
        self._on_failure = on_failure

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self._on_failure is not None:
            return await self._legacy(request, self._on_failure)
        if request.method == "GET" and "last-event-id" not in request.headers:
            # The stream for messages outside of requests: Station listens to none, so the
            # connection (one a session, for ever) is not opened.
            return httpx2.Response(405, request=request)
        is_call = request.method == "POST" and _CALL.match(request.content) is not None
        if not is_call:
            request.extensions["timeout"] = dict.fromkeys(
                ("connect", "read", "write", "pool"), NOTICE_TIMEOUT
            )
        try:
            response = await self._inner.handle_async_request(request)
            return await self._bounded(request, response)
        except _NOT_SENT as error:
            return _failure(is_call, NOT_SENT, f"cannot connect ({_reason(error)})")
        except BodyTooLarge as error:
            return _failure(is_call, TOO_LARGE, str(error))
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            return _failure(is_call, LOST, f"the connection failed ({_reason(error)})")

    async def _legacy(
        self, request: httpx2.Request, on_failure: Callable[[str], None]
    ) -> httpx2.Response:
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.HTTPError as error:
            on_failure(_reason(error))
            raise
        if response.status_code >= 400:
            on_failure(f"HTTP {response.status_code}")
        if _content_type(response) == EVENT_STREAM:
            return response
        body = await self._read(response, ERROR_BODY, strict=False)
        return httpx2.Response(response.status_code, headers=_plain(response), content=body)

    async def _bounded(self, request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
        status = response.status_code
        if status >= 400:
            body = await self._read(response, self._body_limit, strict=False)
            return _refusal(request, status, response, body)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.RemoteProtocolError("the server compressed what it was asked not to")
        if status == 200 and _content_type(response) == EVENT_STREAM:
            # Bounded event by event by the SDK; long calls may send any number of them.
            return response
        body = await self._read(response, self._body_limit, strict=status == 200)
        return httpx2.Response(status, headers=_plain(response), content=body, request=request)

    async def _read(self, response: httpx2.Response, limit: int, *, strict: bool) -> bytes:
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        body = bytearray()
        try:
            async for chunk in _chunks(stream):
                body += chunk
                if len(body) > limit:
                    if strict:
                        raise BodyTooLarge(f"the answer exceeds {limit} bytes")
                    break
        finally:
            await response.aclose()
        return bytes(body)


def http_client(definition: ServerDefinition, transport: CallTransport) -> httpx2.AsyncClient:
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
        return httpx2.AsyncClient(
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


async def _chunks(stream: httpx2.AsyncByteStream) -> AsyncIterator[bytes]:
    async for chunk in stream:
        yield chunk


def _refusal(
    request: httpx2.Request, status: int, response: httpx2.Response, body: bytes
) -> httpx2.Response:
    if status == 404 and "mcp-session-id" in request.headers:
        return _failure(True, SESSION_GONE, "the server has forgotten the session")
    if _content_type(response) == "application/json" and _is_jsonrpc_error(body):
        return httpx2.Response(status, headers=_plain(response), content=body, request=request)
    if status in (401, 403):
        return _failure(True, REFUSED, f"HTTP {status}: check the server's credentials")
    if status in (429, 503):
        return _failure(True, NOT_SENT, f"HTTP {status}: the server is overloaded", status)
    if status >= 500:
        return _failure(True, LOST, f"HTTP {status}", status)
    return _failure(True, REFUSED, f"HTTP {status}", status)


def _is_jsonrpc_error(body: bytes) -> bool:
    try:
        parsed = json.loads(body)
    except ValueError:
        return False
    return isinstance(parsed, dict) and isinstance(parsed.get("error"), dict)


def _failure(is_call: bool, code: int, message: str, status: int = 400) -> httpx2.Response:
    if not is_call:
        return httpx2.Response(202)
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    return httpx2.Response(status, json=error)


def _content_type(response: httpx2.Response) -> str:
    value: str = response.headers.get("content-type", "")
    return value.partition(";")[0].strip().lower()


def _plain(response: httpx2.Response) -> list[tuple[bytes, bytes]]:
    dropped = (b"content-length", b"transfer-encoding", b"content-encoding")
    return [(name, value) for name, value in response.headers.raw if name.lower() not in dropped]


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
