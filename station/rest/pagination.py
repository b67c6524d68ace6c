"""Pages of a list by cursor: stable while rows come and go."""

from typing import Any

from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from station.core.errors import InvalidInput


class CursorPage(CursorPagination):
    """``{"items": […], "next": url|null, "previous": url|null}``, newest first."""

    ordering = "-id"
    page_size = 50
    max_page_size = 200
    page_size_query_param = "limit"

    def get_paginated_response(self, data: Any) -> Response:
        return Response(
            {"items": data, "next": self.get_next_link(), "previous": self.get_previous_link()}
        )

    def decode_cursor(self, request: Request) -> Any:
        try:
            return super().decode_cursor(request)
        except NotFound:
            raise InvalidInput("cursor", "is not a cursor that Station gave out") from None
