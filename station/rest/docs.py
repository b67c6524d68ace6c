"""The API describing itself: an index, the OpenAPI document, and a page that shows it.

All three are public: they say what any release's documentation says. The document is made once a
process; the page needs no other host.
"""

import base64
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.views.decorators.http import condition, require_safe
from drf_spectacular.generators import SchemaGenerator

from station.rest import schema as _extensions  # noqa: F401 - registers how to log in

_PAGE = Path(__file__).with_name("docs.html")


@functools.cache
def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document of every path below ``/api/v1/``."""
    found: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return found


@functools.cache
def _serialized() -> tuple[bytes, str]:
    content = json.dumps(document(), default=str).encode()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'


@functools.cache
def _page() -> tuple[bytes, str]:
    """The page, and the policy that lets it run its own script and nothing else."""
    content = _PAGE.read_text()
    hashes = {
        tag: " ".join(_hashed(text) for text in re.findall(f"<{tag}>(.*?)</{tag}>", content, re.S))
        for tag in ("script", "style")
    }
    policy = (
        f"default-src 'none'; connect-src 'self'; script-src {hashes['script']};"
        f" style-src {hashes['style']}; base-uri 'none'; frame-ancestors 'none'"
    )
    return content.encode(), policy


def _hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@require_safe
def index(_request: HttpRequest) -> HttpResponse:
    """``GET /api/v1/``: where to go from here."""
    collections = sorted(path for path in document()["paths"] if "{" not in path)
    return JsonResponse(
        {
            "docs": reverse("docs"),
            "openapi": reverse("openapi"),
            "resources": {path.removeprefix("/api/v1/"): path for path in collections},
        }
    )


@require_safe
@condition(etag_func=lambda _request: _serialized()[1])
def openapi(_request: HttpRequest) -> HttpResponse:
    """``GET /api/v1/openapi.json``."""
    return HttpResponse(_serialized()[0], content_type="application/json")


@require_safe
def page(_request: HttpRequest) -> HttpResponse:
    """``GET /api/v1/docs``."""
    content, policy = _page()
    return HttpResponse(content, headers={"Content-Security-Policy": policy})
