"""The image's HEALTHCHECK: exits 0 when the web process of this container answers GET /health.

An answer below 500 will do: 400 only says that STN_ALLOWED_HOSTS does not list this address. It
reads no configuration (that would cost half a second of CPU each time): the port is STN_API_PORT
or 8080, and where HTTP is not spoken HTTPS is tried, without looking at the certificate, which
names the public host and not this one. Standard library only.
"""

import http.client
import os
import ssl
import sys

TIMEOUT = 4


def healthy(port: int) -> bool:
    """Whether /health on the loopback interface answers, in HTTP or else in HTTPS."""
    # The certificate is not this address's; what is asked is only whether the process answers.
    unverified = ssl._create_unverified_context()  # noqa: S323
    plain = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        return _ask(plain)
    except (OSError, http.client.HTTPException):
        pass
    secured = http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT, context=unverified)
    try:
        return _ask(secured)
    except (OSError, http.client.HTTPException):
        return False


def _ask(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status < http.client.INTERNAL_SERVER_ERROR
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if healthy(int(os.environ.get("STN_API_PORT") or 8080)) else 1)
