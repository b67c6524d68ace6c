"""From litellm's and its clients' exceptions to ours.

By class name, status and cause, without importing litellm: it raises its own classes, which follow
the OpenAI client's names, around whatever happened below.
"""

import json
import re
from collections.abc import Iterator

from runs.llm.answer import AnswerTooLarge, too_large
from runs.ports import (
    ContentRefused,
    ContextTooLong,
    ModelAuth,
    ModelBadRequest,
    ModelFailure,
    ModelMalformed,
    ModelNotFound,
    ModelRateLimited,
    ModelUnavailable,
)
from station.core.retry_after import retry_after

_BY_NAME: dict[str, type[ModelFailure]] = {
    "ContextWindowExceededError": ContextTooLong,
    "ContentPolicyViolationError": ContentRefused,
    "AuthenticationError": ModelAuth,
    "PermissionDeniedError": ModelAuth,
    "NotFoundError": ModelNotFound,
    "UnsupportedParamsError": ModelBadRequest,
    "BadRequestError": ModelBadRequest,
    "UnprocessableEntityError": ModelBadRequest,
    "RateLimitError": ModelRateLimited,
    "APIResponseValidationError": ModelMalformed,
}
_BY_STATUS: dict[int, type[ModelFailure]] = {
    400: ModelBadRequest,
    401: ModelAuth,
    403: ModelAuth,
    404: ModelNotFound,
    408: ModelUnavailable,
    409: ModelUnavailable,
    413: ContextTooLong,
    422: ModelBadRequest,
    429: ModelRateLimited,
}
_FIXES: dict[type[ModelFailure], str] = {
    ModelAuth: "Check STN_AI_API_KEY.",
    ModelNotFound: "Check the agent's model and STN_AI_PROVIDER.",
    ContextTooLong: "Shorten the task, or choose a model that reads more.",
}
_BY_CODE: dict[str, type[ModelFailure]] = {
    "context_length_exceeded": ContextTooLong,
    "content_policy_violation": ContentRefused,
    "content_filter": ContentRefused,
}
# litellm answers a body that is no completion with status 500 and these words.
_NO_COMPLETION = ("Empty or invalid response from LLM endpoint", "Invalid response object")
_PREFIX = re.compile(r"^(?:litellm\.)?\w*(?:Error|Exception|Timeout)(?::| -)\s*")
_SECRETS = re.compile(
    r"(?P<start>Bearer\s+|//|[?&](?:api_?)?key=)[^\s/@&\"']+(?P<end>@)?|sk-[\w-]{8,}|AIza[\w-]{20,}"
)
_LONGEST_REASON = 500


def translate(error: BaseException, *, model: str, secret: str) -> ModelFailure:
    """Our failure for an exception from below, its message without any key.

    Args:
        model: named in the message.
        secret: the API key in use, or "".
    """
    chain = list(_chain(error))
    if any(isinstance(link, AnswerTooLarge) for link in chain):
        return too_large()
    # The first line only: some messages go on with a traceback.
    reason = scrub(next(iter(str(error).strip().splitlines()), ""), secret)
    while (shorter := _PREFIX.sub("", reason)) != reason:
        reason = shorter
    codes = set(_codes(chain))
    kind = _classify(error, chain, codes, reason)
    wait = next((w for link in chain if (w := _wait_asked(link)) is not None), None)
    # A used-up quota is answered like a rate limit, but no waiting of ours helps.
    spent = kind is ModelRateLimited and "insufficient_quota" in codes
    fix = "Check the plan and billing at the provider." if spent else _FIXES.get(kind, "")
    message = f"{model}: {reason[:_LONGEST_REASON] or kind.__doc__}"
    return kind(message, fix=fix, retry_after=wait, permanent=True if spent else None)


def scrub(text: str, secret: str) -> str:
    """The text without the key, bearer tokens, keys in addresses and credentials before an @."""
    if secret:
        text = text.replace(secret, "***")

    def hide(match: re.Match[str]) -> str:
        start, end = match["start"], match["end"]
        if start == "//" and not end:
            return match[0]  # an address without credentials
        return f"{start or ''}***{end or ''}"

    return _SECRETS.sub(hide, text)


def _classify(
    error: BaseException, chain: list[BaseException], codes: set[str], reason: str
) -> type[ModelFailure]:
    if any(isinstance(link, json.JSONDecodeError) for link in chain):
        return ModelMalformed
    if any(words in reason for words in _NO_COMPLETION):
        return ModelMalformed
    if code := next((code for code in _BY_CODE if code in codes), None):
        return _BY_CODE[code]
    for parent in type(error).__mro__:
        if kind := _BY_NAME.get(parent.__name__):
            return kind
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and "Connection" not in type(error).__name__:
        return _BY_STATUS.get(status, ModelUnavailable)
    return ModelUnavailable


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _codes(chain: list[BaseException]) -> Iterator[str]:
    """The machine-readable names of the problem, as the provider's error body gives them."""
    for link in chain:
        body = getattr(link, "body", None)
        inner = body.get("error", body) if isinstance(body, dict) else {}
        found = [getattr(link, "code", None)]
        found += [inner.get("code"), inner.get("type")] if isinstance(inner, dict) else []
        yield from (code for code in found if isinstance(code, str))


def _wait_asked(error: BaseException) -> float | None:
    sources = (error, getattr(error, "response", None))
    for source in sources:
        for name in ("litellm_response_headers", "headers"):
            headers = getattr(source, name, None)
            if headers and (wait := retry_after(dict(headers))) is not None:
                return wait
    return None
