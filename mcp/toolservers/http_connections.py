"""The connections of one session with a tool server over HTTP, and the client that uses them.

Each session has its own headers and cookies although all share one TLS context: building one cost
20 of the 30 ms an own client costs.
"""

import logging
import re
import ssl
from functools import cache

import httpx2

from toolservers.definition import ServerDefinition
from toolservers.errors import ToolServerUnavailable

CONNECT_TIMEOUT = 10.0
"""Seconds until a host that does not even accept a connection is given up."""
MOST_COOKIES = 50
MOST_REDIRECTS = 3
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


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


class Connections(httpx2.AsyncHTTPTransport):
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


def http_client(
    definition: ServerDefinition,
    transport: httpx2.AsyncBaseTransport,
    *,
    silence: float | None = None,
) -> httpx2.AsyncClient:
    """A client with the definition's headers that talks through ``transport``.

    ``silence``: seconds between two pieces of an answer, if that is not bounded elsewhere.

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
            timeout=httpx2.Timeout(
                None, read=silence, connect=min(CONNECT_TIMEOUT, definition.request_timeout)
            ),
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
