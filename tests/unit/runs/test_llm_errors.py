"""Hiding keys in a provider's errors."""

import pytest

from runs.llm.errors import scrub, translate
from runs.ports import ModelUnavailable


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
