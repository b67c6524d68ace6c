"""The outermost middleware: a request's id, its log line and its metrics."""

from collections.abc import Callable
from contextvars import copy_context

from django.http import HttpRequest, HttpResponseBase

from station.observe.requests import HEADER, UNMATCHED, Answering


class RequestContext:
    """Binds ``request_id`` to the log context, returns it as a header, counts and logs.

    It is synchronous, like every middleware here: station.rest.threads runs them all in one thread,
    at the price of one change of thread a request.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        # In a context of its own: what is bound for this request must not outlive it.
        return copy_context().run(self._answer, request)

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        answering = Answering(
            method=request.method or "",
            path=request.path,
            given_id=request.headers.get(HEADER, ""),
            client=request.META.get("REMOTE_ADDR") or "",
        )
        response = self._get_response(request)
        response[HEADER] = answering.request_id
        answering.done(route=route_of(request), status=response.status_code)
        return response


def route_of(request: HttpRequest) -> str:
    """The template of the URL that matched, like ``/api/v1/runs/<int:pk>``, else "unmatched"."""
    match = request.resolver_match
    if match is not None:
        return f"/{match.route}"
    return "/static/" if request.path_info.startswith("/static/") else UNMATCHED
