"""The model client: litellm, with our retries, bounds and errors around it.

A stream of the OpenAI protocol is read from its response as it arrives: litellm's stream wrapper
takes over a millisecond a chunk, ours some hundredths. Other protocols go through the wrapper.
"""

import asyncio
import inspect
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx

from runs.llm.answer import Assembly, stream_events
from runs.llm.errors import scrub, translate
from runs.llm.library import load, prepared
from runs.llm.models import Models, Target
from runs.llm.request import arguments
from runs.llm.transport import http_client
from runs.ports import (
    Circuits,
    ModelAnswer,
    ModelAuth,
    ModelBadRequest,
    ModelCircuitOpen,
    ModelDeadline,
    ModelFailure,
    ModelMalformed,
    ModelRequest,
    ModelUnavailable,
)

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 30.0
_SILENT = 10.0
"""Seconds without a sign of it, before the deadline, that count as a provider's failure."""
# Providers whose requests go through a client of ours, so that every body is bounded.
_OPENAI = "openai"
_HANDLED = frozenset({"anthropic", "gemini"})


class _CallbackFailed(Exception):
    """Carries what ``on_delta`` raised past the translation of the provider's errors."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class LiteLlmClient:
    """Asks models at one configured provider, and at others that a model's prefix names.

    One for a process: it holds the HTTP connections. It belongs to the event loop of its first
    ``ask``. The key and address given here are used for the configured provider only; for a model
    of another provider litellm looks for that provider's usual environment variable.
    """

    def __init__(
        self,
        *,
        provider: str,
        api_key: str = "",
        base_url: str = "",
        request_timeout: float = 120.0,
        max_retries: int = 3,
        circuits: Circuits | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[float], float] = lambda longest: random.uniform(0, longest),  # noqa: S311
    ) -> None:
        """Configure; nothing is imported or connected yet.

        Args:
            provider: litellm's name of it: openai, anthropic, gemini, ...
            base_url: instead of the provider's own address; for OpenAI's protocol up to ``/v1``.
            request_timeout: the longest silence while connecting or answering, seconds.
            max_retries: further tries of one model after a failure that may pass.
            circuits: asked before each request and told how it went.
            jitter: a wait between 0 and its argument, for spreading retries.
        """
        self._models = Models(provider)
        self._api_key = api_key
        self._base_url = base_url
        self._request_timeout = request_timeout
        self._max_retries = max_retries
        self._circuits = circuits
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._http: Any = None
        self._clients: dict[str, Any] = {}

    async def ask(
        self,
        request: ModelRequest,
        *,
        on_delta: Callable[[str], None] | None = None,
        on_retry: Callable[[ModelFailure, float], None] | None = None,
        before_send: Callable[[], None] | None = None,
    ) -> ModelAnswer:
        """See :meth:`runs.ports.ModelClient.ask`."""
        if not load.cache_info().currsize:
            await asyncio.to_thread(load)
        targets = [self._models.target(name) for name in (request.model, *request.fallback_models)]
        failures: list[ModelFailure] = []
        attempts = 0

        def sending() -> None:
            nonlocal attempts
            if before_send:
                before_send()
            attempts += 1

        for target in targets:
            if failures and on_retry:
                on_retry(failures[-1], 0.0)
            for retry in range(self._max_retries + 1):
                if self._clock() >= request.deadline:
                    raise failures[0] if failures else ModelDeadline()
                outcome = await self._attempt(target, request, on_delta, sending)
                if isinstance(outcome, ModelAnswer):
                    return replace(outcome, attempts=attempts)
                failure = outcome
                if isinstance(failure, ModelDeadline | ModelBadRequest):
                    raise failure
                last = failure.permanent or retry == self._max_retries
                if last or isinstance(failure, ModelCircuitOpen):
                    break
                wait = self._wait(retry, failure.retry_after)
                if self._clock() + wait >= request.deadline:
                    break  # another model may still answer in time
                if on_retry:
                    on_retry(failure, wait)
                await self._sleep(wait)
            failures.append(failure)
        # A failure that may pass says more about when to come back than one that will not.
        raise min(failures, key=lambda f: (not isinstance(f, ModelCircuitOpen), f.permanent))

    async def close(self) -> None:
        """Close the connections, litellm's own to other providers included. Ask no more then."""
        if self._http is not None:
            await self._http.aclose()
        if load.cache_info().currsize:
            await load().close_litellm_async_clients()

    def _wait(self, retry: int, asked: float | None) -> float:
        """Exponential backoff with full jitter, on top of what the provider asked for."""
        backoff = self._jitter(min(_FIRST_WAIT * 2.0**retry, _LONGEST_WAIT))
        return backoff if asked is None else asked + min(backoff, 1.0)

    async def _attempt(
        self,
        target: Target,
        request: ModelRequest,
        on_delta: Callable[[str], None] | None,
        sending: Callable[[], None],
    ) -> ModelAnswer | ModelFailure:
        """Send one request if the provider's circuit lets it through, and say how it went."""
        circuits, provider = self._circuits, target.provider
        if circuits is None:
            sending()
            return await self._exchanged(target, request, on_delta, None)
        trial = min(self._request_timeout, request.deadline - self._clock())
        admission = await circuits.admit(provider, patience=trial)
        if admission.wait is not None:
            return _circuit_open(provider, admission.wait)
        try:
            sending()
            started = self._clock()
            outcome = await self._exchanged(
                target, request, on_delta, trial if admission.trial else None
            )
        except BaseException:
            if admission.trial:
                await circuits.withdraw(provider)
            raise
        took = self._clock() - started
        if isinstance(outcome, ModelUnavailable):
            left = await circuits.failed(provider, outcome.message)
            if left is not None:
                return _circuit_open(provider, left, outcome.message, in_vain=took)
        elif not isinstance(outcome, ModelDeadline) or not outcome.silent:
            await circuits.succeeded(provider)
        elif took >= _SILENT:
            await circuits.failed(provider, f"{target}: not a word within {took:.0f} s.")
        return outcome

    async def _exchanged(
        self,
        target: Target,
        request: ModelRequest,
        on_delta: Callable[[str], None] | None,
        patience: float | None,
    ) -> ModelAnswer | ModelFailure:
        """Send one request. Failures are returned, so that no traceback holds the key.

        With ``patience``, the provider must have begun to answer after so many seconds; where that
        is all the time there is, the deadline ends it as ever.
        """
        started = self._clock()
        remaining = max(request.deadline - started, 0.0)
        until = asyncio.get_running_loop().time() + remaining
        limit = asyncio.timeout(remaining if patience is None else min(remaining, patience))
        assembly = Assembly(on_delta=_guarded(on_delta), on_begin=lambda: limit.reschedule(until))
        try:
            async with limit:
                await self._exchange(target, request, assembly, stream=on_delta is not None)
                calls = assembly.finish()
        except _CallbackFailed as failed:
            raise failed.error from None
        except ModelFailure as failure:
            failure.message = scrub(failure.message, self._api_key)
            failure.args = (failure.message,)
            return failure
        except Exception as error:  # noqa: BLE001 - litellm raises whatever is below it
            if limit.expired():
                if patience is not None and patience < remaining and not assembly.pieces:
                    return ModelUnavailable(f"{target}: not a word within {patience:.0f} s.")
                return ModelDeadline(silent=not assembly.pieces)
            return self._translated(error, target)
        return ModelAnswer(
            content=assembly.text,
            tool_calls=calls,
            usage=assembly.usage,
            cost_usd=self._models.cost(target, assembly.usage),
            model=str(target),
            finish_reason=assembly.finish_reason or "",
            duration=self._clock() - started,
            attempts=1,
        )

    def _translated(self, error: Exception, target: Target) -> ModelFailure:
        try:
            # Raises its own class for this provider's way of saying it, or the error itself.
            load().exception_type(
                model=target.model,
                original_exception=error,
                custom_llm_provider=target.provider,
            )
        except Exception as mapped:  # noqa: BLE001 - this is how it answers
            return translate(mapped, model=str(target), secret=self._api_key)
        return translate(error, model=str(target), secret=self._api_key)

    async def _exchange(
        self, target: Target, request: ModelRequest, assembly: Assembly, *, stream: bool
    ) -> None:
        """Fill ``assembly`` with the answer to one HTTP request."""
        client = self._client(target)
        # A body that no client of ours bounds is read in pieces, whose sum is bounded.
        stream = stream or client is None
        options = arguments(request, schema_supported=self._models.takes_schema(target, request))
        if stream:
            options |= {"stream": True, "stream_options": {"include_usage": True}}
        if client is not None:
            options["client"] = client
        if target.ours:
            options |= {"api_key": self._api_key or None, "base_url": self._base_url or None}
        response = await self._send(target, options)
        if not stream:
            assembly.add(response.model_dump())
            return
        body = getattr(getattr(response, "completion_stream", None), "response", None)
        if target.provider == _OPENAI and body is not None:
            try:
                async for event in stream_events(body.aiter_bytes()):
                    assembly.add(event)
            finally:
                await body.aclose()
            if not assembly.pieces:
                raise ModelMalformed(f"{target}: the answer is no event stream.")
        else:
            try:
                async for chunk in response:
                    assembly.add(chunk.model_dump())
            finally:
                await response.aclose()

    async def _send(self, target: Target, options: dict[str, Any]) -> Any:
        pending = prepared(
            options
            | {
                "model": str(target),
                "timeout": self._request_timeout,
                "max_retries": 0,
                "caching": False,
            }
        )
        return await pending if inspect.isawaitable(pending) else pending

    def _client(self, target: Target) -> Any:
        """The client object litellm shall use for this target; None: one of its own."""
        if not target.ours or (target.provider != _OPENAI and target.provider not in _HANDLED):
            return None
        if not (self._api_key or self._base_url):
            raise ModelAuth(
                f"There is no API key for the model provider {target.provider}.",
                fix="Set STN_AI_API_KEY.",
            )
        if target.provider not in self._clients:
            self._clients[target.provider] = self._new_client(target.provider)
        return self._clients[target.provider]

    def _new_client(self, provider: str) -> Any:
        # These come with litellm, so they are imported as late as it is.
        from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler  # noqa: PLC0415

        from runs.llm.openai import OpenAiClient  # noqa: PLC0415

        if self._http is None:
            self._http = http_client(
                AsyncHTTPHandler.create_async_transport() or httpx.AsyncHTTPTransport()
            )
        if provider == _OPENAI:
            return OpenAiClient(
                # A server at an address of ours may need no key; the client insists on one.
                api_key=self._api_key or "none",
                base_url=self._base_url or None,
                http_client=self._http,
                max_retries=0,
                timeout=self._request_timeout,
            )
        handler = AsyncHTTPHandler(timeout=self._request_timeout)
        handler.client = self._http
        return handler


def _circuit_open(
    provider: str, left: float, problem: str = "", *, in_vain: float = 0.0
) -> ModelCircuitOpen:
    last = f", at last: {problem}" if problem else ""
    failure = ModelCircuitOpen(
        f"{provider} failed again and again{last}; it is asked again in {left:.0f} s.",
        fix="Check the provider's status, STN_AI_BASE_URL and the network.",
        retry_after=left,
    )
    failure.in_vain = in_vain
    return failure


def _guarded(on_delta: Callable[[str], None] | None) -> Callable[[str], None] | None:
    if on_delta is None:
        return None

    def deliver(text: str) -> None:
        try:
            on_delta(text)
        except Exception as error:
            raise _CallbackFailed(error) from error

    return deliver
