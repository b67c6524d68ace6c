"""Pages by cursor over real rows."""

import base64
from typing import Any

import pytest
from django.test import RequestFactory
from rest_framework.request import Request

from station.accounts.models import Environment
from station.core.errors import InvalidInput
from station.rest.pagination import CursorPage

pytestmark = pytest.mark.django_db


def _page(query: str) -> Any:
    request = Request(RequestFactory().get(f"/api/v1/environments{query}"))
    pages = CursorPage()
    rows = pages.paginate_queryset(Environment.objects.all(), request)
    assert rows is not None
    return pages.get_paginated_response([row.pk for row in rows]).data


def _cursor(text: str) -> str:
    return "?cursor=" + base64.b64encode(text.encode()).decode().replace("=", "%3D")


def test_pages_go_through_all_rows_newest_first_and_back() -> None:
    made = [Environment.objects.create(name=f"e{n}").pk for n in range(7)]
    first = _page("?limit=3")
    second = _page("?" + first["next"].partition("?")[2])
    Environment.objects.create(name="newcomer")
    third = _page("?" + second["next"].partition("?")[2])
    assert first["items"] + second["items"] + third["items"] == made[::-1]
    assert third["next"] is None
    assert _page("?" + third["previous"].partition("?")[2])["items"] == second["items"]


@pytest.mark.parametrize(
    "query",
    [
        "?cursor=%00",
        "?cursor=nonsense",
        "?cursor=%F0%9F%98%80",
        _cursor("p=abc"),
        _cursor("p=1%00"),
        _cursor("p=99999999999999999999999999x"),
        _cursor("o=-1"),
        _cursor("o=x"),
    ],
)
def test_a_bad_cursor_is_named(query: str) -> None:
    with pytest.raises(InvalidInput, match=r"^cursor: "):
        _page(query)


def test_a_cursor_beyond_any_number_is_an_empty_page_or_named() -> None:
    Environment.objects.create(name="one")
    assert len(_page(_cursor(f"p={10**30}"))["items"]) <= 1


@pytest.mark.parametrize("limit", ["0", "201", "-1", "x", "", "1e2", "٣", "9" * 30])
def test_a_bad_limit_is_named(limit: str) -> None:
    with pytest.raises(InvalidInput, match=r"^limit: "):
        _page(f"?limit={limit}")


def test_a_page_costs_one_query(django_assert_num_queries: Any) -> None:
    for number in range(5):
        Environment.objects.create(name=f"e{number}")
    with django_assert_num_queries(1):
        _page("?limit=2")
