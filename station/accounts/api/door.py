"""The base of every REST view: reading the request, rendering the answer, describing both."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import models
from django.urls import reverse
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.status import HTTP_201_CREATED

from station.accounts import services
from station.accounts.api.shapes import Nothing, Shape, read, read_query
from station.core.errors import Conflict, InvalidInput, NotFound
from station.rest.pagination import CursorPage
from station.rest.problems import CONTENT_TYPE
from station.rest.views import View

Method = TypeVar("Method", bound=Callable[..., Response])
Row = TypeVar("Row", bound=models.Model)
_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_WHEN = {
    401: "No valid API key or session.",
    403: "Your role does not allow it.",
    404: "There is no such thing, or it is not visible to you.",
    409: "It conflicts with the present state.",
    413: "The body, or a field of it, is too large.",
    415: "The body is not said to be JSON.",
    422: "The request is not valid; `errors` names every bad field.",
    503: "It is not available now.",
}


class Door(View):
    """A REST resource: it parses, calls one service, renders."""

    wanted: dict[str, Any]
    """What the query says, of the operation's shape."""
    given: dict[str, Any]
    """What the body says, of the operation's shape."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate; then read path, query and body as the operation declares them.

        Raises:
            Unauthenticated, NotFound, InvalidInput: as the names say.
        """
        super().initial(request, *args, **kwargs)
        if any("\0" in str(part) for part in kwargs.values()):
            raise NotFound  # PostgreSQL cannot even be asked
        handler = getattr(self, str(request.method).lower(), None)
        query, body = getattr(handler, "shapes", (Nothing, Nothing))
        self.wanted = read_query(query, request.query_params)
        self.given = {} if request.method in SAFE_METHODS else read(body, request.data)

    def one(self, rows: models.QuerySet[Row], **by: Any) -> Row:
        """The one of the visible ``rows``. Raises :class:`NotFound`."""
        found = rows.filter(**by).first()
        if found is None:
            raise NotFound
        return found

    def wanted_environment(self) -> int | None:
        """The id of the environment that the query names, ``None`` when it names none.

        Raises:
            InvalidInput: the caller sees no such environment.
        """
        if "environment" not in self.wanted:
            return None
        with filtering("environment"):
            return services.environment(self.principal, self.wanted["environment"]).pk

    def created(
        self, answer: Any, route: str, *, query: Mapping[str, str] | None = None, **path: Any
    ) -> Response:
        """201 with the address of what was created, by its name where it has one.

        A path with an id would lead to whatever else is called by these digits.
        """
        where = {"Location": reverse(route, kwargs=path, query=query)}
        return Response(answer, status=HTTP_201_CREATED, headers=where)

    def page(
        self,
        rows: models.QuerySet[Any],
        shape: type[serializers.BaseSerializer[Any]],
        *,
        context: Mapping[str, Any] | None = None,
    ) -> Response:
        """One page of ``rows``, newest first. Raises :class:`InvalidInput` for a bad cursor."""
        pages = CursorPage()
        found = pages.paginate_queryset(rows, self.request, view=self)
        answers = shape(found, many=True, context=dict(context or {}))
        return pages.get_paginated_response(answers.data)


@contextmanager
def filtering(name: str) -> Iterator[None]:
    """Within, what a filter names and cannot be found makes the filter a bad one.

    Raises:
        InvalidInput: naming the query parameter ``name``.
    """
    try:
        yield
    except (NotFound, Conflict) as error:
        raise InvalidInput(name, error.message, fix=error.fix) from None


@contextmanager
def below(name: str) -> Iterator[None]:
    """Within, a bad field is one of the object ``name`` of the body.

    Raises:
        InvalidInput: the same, with the longer path.
    """
    try:
        yield
    except InvalidInput as error:
        raise error.at(f"{name}.{error.field}") from None


def page_of(shape: type[serializers.BaseSerializer[Any]]) -> serializers.BaseSerializer[Any]:
    """The shape of a page of ``shape``, for the documentation."""
    return inline_serializer(
        f"{shape.__name__.removesuffix('Serializer')}Page",
        fields={
            "items": shape(many=True),
            "next": serializers.URLField(allow_null=True, help_text="The page behind this one."),
            "previous": serializers.URLField(
                allow_null=True, help_text="The page before this one."
            ),
        },
    )


def operation(
    name: str,
    summary: str,
    *,
    tag: str,
    answer: Any = None,
    status: int = 200,
    body: type[Shape] | None = None,
    query: type[Shape] | None = None,
    problems: Sequence[int] = (),
    parameters: Sequence[Any] = (),
    examples: Sequence[OpenApiExample] = (),
    description: str | None = None,
) -> Callable[[Method], Method]:
    """Declare what a view's method takes, and describe it in OpenAPI with its problems.

    ``answer`` is the response's serializer, ``None`` for an empty one, or responses as
    drf-spectacular takes them; ``problems`` are the statuses beside 401, 422 and, where a body may
    be sent, 413 and 415. Without ``body`` only an empty one is taken.
    """
    nothing = OpenApiResponse(description="Done.")

    def declare(method: Method) -> Method:
        sends = method.__name__.upper() not in SAFE_METHODS
        answers = answer if isinstance(answer, dict) else {status: answer or nothing}
        responses: dict[Any, Any] = dict(answers)
        for bad in sorted({401, 422, *problems} | ({413, 415} if sends else set())):
            responses[bad, CONTENT_TYPE] = OpenApiResponse(_PROBLEM, description=_WHEN[bad])
        describe = extend_schema(
            operation_id=name,
            summary=summary,
            description=description,
            tags=[tag],
            request=body,
            responses=responses,
            parameters=[*([query] if query else []), *parameters],
            examples=list(examples),
        )
        described: Method = describe(method)
        described.shapes = (query or Nothing, body or Nothing)  # type: ignore[attr-defined]
        return described

    return declare
