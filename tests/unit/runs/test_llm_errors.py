"""Reading waits and hiding keys in a provider's errors."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.llm_errors import retry_after, scrub, translate
from runs.ports import ModelUnavailable

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"Retry-After": "Fri, 02 Jan 2026 03:04:35 GMT"}, 30.0),
        ({"Retry-After": "Fri, 02 Jan 2026 03:00:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "nan"}, None),
        ({}, None),
    ],
)
def test_the_wait_a_provider_asks_for_is_read(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(headers, now=NOW) == seconds


@given(st.text(max_size=60))
def test_no_header_breaks_the_reading(text: str) -> None:
    wait = retry_after({"Retry-After": text}, now=NOW)
    assert wait is None or wait >= 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key my-own-key is wrong", "key *** is wrong"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("got sk-ant-0123456789", "got ***"),
        ("POST https://user:pass@host/v1 failed", "POST https://***@host/v1 failed"),
        ("GET https://host/v1?key=secret&x=1", "GET https://host/v1?key=***&x=1"),
        ("GET https://host/v1 failed", "GET https://host/v1 failed"),
    ],
)
def test_secrets_are_hidden(text: str, expected: str) -> None:
    assert scrub(text, "my-own-key") == expected


def test_an_unknown_exception_may_pass_and_is_told_in_one_line() -> None:
    error = RuntimeError("litellm.APIError: APIError: odd thing\nTraceback (most recent call last)")
    failure = translate(error, model="openai/m", secret="")
    assert type(failure) is ModelUnavailable
    assert failure.message == "openai/m: odd thing"
