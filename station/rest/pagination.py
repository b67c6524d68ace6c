"""Pages of a list by cursor: stable while rows come and go."""

import re
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import Field, Model, QuerySet
from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from station.core.errors import InvalidInput

_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


class CursorPage(CursorPagination):
    """``{"items": […], "next": url|null, "previous": url|null}``, newest first.

    ``?limit=`` takes 1 to 200 and is 50 when left out. A view may set ``ordering`` to unique
    columns of its own.

    Raises:
        InvalidInput: ``cursor`` or ``limit`` is not valid.
    """

    ordering = "-id"
    page_size = 50
    max_page_size = 200
    page_size_query_param = "limit"
    page_size_query_description = "Items on a page, 1 to 200 (50 when left out)."
    cursor_query_description = "Where the page begins: taken from `next` or `previous`."

    def paginate_queryset(
        self,
        queryset: "QuerySet[Any, Any] | Sequence[Any]",
        request: Request,
        view: APIView | None = None,
    ) -> list[Any] | None:
        assert isinstance(queryset, QuerySet)
        self._model: type[Model] = queryset.model
        return super().paginate_queryset(queryset, request, view)

    def get_page_size(self, request: Request) -> int:
        given = request.query_params.get(self.page_size_query_param)
        if given is None:
            return self.page_size
        if given.isascii() and given.isdecimal() and len(given) < 9:
            size = int(given)
            if 1 <= size <= self.max_page_size:
                return size
        raise InvalidInput("limit", f"must be a whole number from 1 to {self.max_page_size}")

    def decode_cursor(self, request: Request) -> Cursor | None:
        try:
            if not _BASE64.fullmatch(request.query_params.get(self.cursor_query_param, "")):
                raise ValueError
            cursor = super().decode_cursor(request)
            if cursor is not None and cursor.position is not None:
                self._check(str(cursor.position))
        except (NotFound, ValidationError, ValueError):
            raise InvalidInput(
                "cursor",
                "is not one that Station gave out",
                fix="Begin without a cursor, then follow `next`.",
            ) from None
        return cursor

    def get_paginated_response(self, data: Any) -> Response:
        return Response(
            {"items": data, "next": self.get_next_link(), "previous": self.get_previous_link()}
        )

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["items", "next", "previous"],
            "properties": {
                "items": schema,
                "next": {**link, "description": "The page behind this one."},
                "previous": {**link, "description": "The page before this one."},
            },
        }

    def _check(self, position: str) -> None:
        """Refuse what the ordering's first column could not hold."""
        if "\0" in position:
            raise ValueError(position)
        try:
            field = self._model._meta.get_field(str(self.ordering[0]).lstrip("-"))
        except FieldDoesNotExist:
            return
        if isinstance(field, Field):
            field.to_python(position)
