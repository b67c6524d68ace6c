"""The litellm client when a model fails, is slow or is given up: retries, fallbacks, deadlines."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from runs.llm.client import LiteLlmClient
from runs.ports import (
    ModelAuth,
    ModelBadRequest,
    ModelDeadline,
    ModelFailure,
    ModelMalformed,
    ModelRateLimited,
    ModelUnavailable,
)
from runs.scripted.testing import ScriptedModel
from station.core.errors import Forbidden
from tests.integration.runs.asking import (
    KEY,
    Timeline,
    both_ways,
    client,
    failure_of,
    request,
    script,
    turn,
)


async def test_a_rate_limit_is_waited_out_as_long_as_the_provider_asked() -> None:
    line = Timeline()
    heard: list[tuple[type[ModelFailure], float]] = []
    error = {"status": 429, "retry_after": 7, "times": 2}
    with ScriptedModel(script(turn(error=error))) as model:
        asking = client(model, line, max_retries=3)
        answer = await asking.ask(
            request(deadline=line.now + 60),
            on_retry=lambda failure, wait: heard.append((type(failure), wait)),
        )
        await asking.close()
    assert answer.attempts == 3
    assert all(7 <= wait <= 8 for wait in line.slept)
    assert heard == [(ModelRateLimited, wait) for wait in line.slept]


async def test_retry_after_may_be_a_date() -> None:
    line = Timeline()
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    with ScriptedModel(
        script(turn(error={"status": 503, "retry_after": date, "times": 1}))
    ) as model:
        asking = client(model, line, max_retries=1)
        await asking.ask(request(deadline=line.now + 60))
        await asking.close()
    assert 25 <= line.slept[0] <= 31


async def test_waits_grow_and_end_with_the_tries() -> None:
    line = Timeline()
    with ScriptedModel(script(turn(error={"status": 500}))) as model:
        asking = client(model, line, max_retries=3)
        with pytest.raises(ModelUnavailable):
            await asking.ask(request(deadline=line.now + 60))
        await asking.close()
        assert model.counts["m"] == 4
    assert line.slept == [0.5, 1.0, 2.0]


async def test_a_wait_past_the_deadline_is_not_begun() -> None:
    line = Timeline()
    with ScriptedModel(script(turn(error={"status": 429, "retry_after": 90}))) as model:
        asking = client(model, line, max_retries=3)
        with pytest.raises(ModelRateLimited) as caught:
            await asking.ask(request(deadline=line.now + 60))
        await asking.close()
    assert caught.value.retry_after == 90
    assert line.slept == []


async def test_a_permanent_failure_is_not_retried() -> None:
    line = Timeline()
    with ScriptedModel(script(turn(error={"status": 401}))) as model:
        asking = client(model, line, max_retries=3)
        with pytest.raises(ModelAuth):
            await asking.ask(request(deadline=line.now + 60))
        await asking.close()
        assert model.counts["m"] == 1


async def test_fallback_models_are_asked_in_order() -> None:
    scenarios = [
        *script(turn(error={"status": 503}), name="first"),
        *script(turn(error={"status": 404}), name="second"),
        *script(turn(say="Third here."), name="third"),
    ]
    heard: list[tuple[str, float]] = []
    line = Timeline()
    with ScriptedModel(scenarios) as model:
        asking = client(model, line, max_retries=1)
        answer = await asking.ask(
            request("first", fallback_models=("second", "third"), deadline=line.now + 60),
            on_retry=lambda failure, wait: heard.append((failure.code, wait)),
        )
        await asking.close()
        assert [r.model for r in model.requests] == ["first", "first", "second", "third"]
    assert (answer.model, answer.content, answer.attempts) == ("openai/third", "Third here.", 4)
    assert heard == [("model_unavailable", 0.5), ("model_unavailable", 0), ("model_not_found", 0)]


async def test_when_all_models_fail_the_failure_that_may_pass_is_told() -> None:
    scenarios = [
        *script(turn(error={"status": 404}), name="first"),
        *script(turn(error={"status": 429, "retry_after": 9}), name="second"),
    ]
    with ScriptedModel(scenarios) as model:
        asking = client(model)
        with pytest.raises(ModelRateLimited):
            await asking.ask(request("first", fallback_models=("second",)))
        await asking.close()


async def test_a_bad_request_is_not_sent_to_fallback_models() -> None:
    scenarios = [*script(turn(error={"status": 400}), name="first"), *script(turn(), name="second")]
    with ScriptedModel(scenarios) as model:
        asking = client(model)
        with pytest.raises(ModelBadRequest):
            await asking.ask(request("first", fallback_models=("second",)))
        await asking.close()
        assert model.counts["second"] == 0


@both_ways
async def test_an_answer_cut_half_way_is_asked_for_again_as_a_whole(on_delta: Any) -> None:
    pieces: list[str] = []
    voided: list[str] = []

    def void(failure: ModelFailure, wait: float) -> None:
        voided.append("".join(pieces))
        pieces.clear()

    line = Timeline()
    cut = turn(say="One two three four.", **{"break": {"after": 3, "times": 1}})
    with ScriptedModel(script(cut)) as model:
        asking = client(model, line, max_retries=1)
        answer = await asking.ask(
            request(deadline=line.now + 60), on_delta=on_delta and pieces.append, on_retry=void
        )
        await asking.close()
        assert model.counts["m"] == 2
    assert answer.content == "One two three four."
    assert voided == (["One two "] if on_delta else [""])
    assert "".join(pieces) == (answer.content if on_delta else "")


@both_ways
@pytest.mark.parametrize(
    "fault", [{"delay": 20}, {"endless": True, "drip": 0.01}, {"drip": 5}], ids=str
)
async def test_the_deadline_ends_every_kind_of_slowness(
    fault: dict[str, Any], on_delta: Any
) -> None:
    if on_delta is None and set(fault) == {"drip"}:
        pytest.skip("only streams drip")
    with ScriptedModel(script(turn(**fault))) as model:
        asking = client(model, max_retries=5)
        started = time.monotonic()
        with pytest.raises(ModelDeadline):
            await asking.ask(request(deadline=started + 0.5), on_delta=on_delta)
        await asking.close()
    assert time.monotonic() - started < 2


async def test_a_passed_deadline_sends_nothing() -> None:
    with ScriptedModel(script(turn())) as model:
        asking = client(model)
        with pytest.raises(ModelDeadline):
            await asking.ask(request(deadline=time.monotonic()))
        await asking.close()
        assert model.requests == ()


@both_ways
async def test_silence_is_cut_by_the_request_timeout_and_may_be_retried(on_delta: Any) -> None:
    with ScriptedModel(script(turn(delay=20))) as model:
        asking = client(model, request_timeout=0.3)
        started = time.monotonic()
        with pytest.raises(ModelUnavailable):
            await asking.ask(request(), on_delta=on_delta)
        await asking.close()
    assert time.monotonic() - started < 3


@both_ways
async def test_an_endless_answer_is_cut_when_it_is_too_large(on_delta: Any) -> None:
    failure = await failure_of(script(turn(endless=True)), on_delta)
    assert type(failure) is ModelMalformed
    assert failure.permanent


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with ScriptedModel(script(turn())) as model:
        gone = model.base_url
    asking = LiteLlmClient(provider="openai", api_key=KEY, base_url=gone, max_retries=0)
    with pytest.raises(ModelUnavailable):
        await asking.ask(request())
    await asking.close()


async def test_before_send_comes_before_every_request_and_its_error_ends_the_asking() -> None:
    line = Timeline()
    sent: list[int] = []

    def before() -> None:
        sent.append(len(model.requests))
        if len(sent) == 3:
            raise Forbidden("the lease is lost")

    with ScriptedModel(script(turn(error={"status": 500}))) as model:
        asking = client(model, line, max_retries=5)
        with pytest.raises(Forbidden, match="lease"):
            await asking.ask(request(deadline=line.now + 60), before_send=before)
        await asking.close()
        assert sent == [0, 1, 2]
        assert len(model.requests) == 2


async def test_what_on_delta_raises_propagates_unchanged() -> None:
    def refuse(text: str) -> None:
        raise ValueError("no more")

    with ScriptedModel(script(turn())) as model:
        asking = client(model, max_retries=2)
        with pytest.raises(ValueError, match="no more"):
            await asking.ask(request(), on_delta=refuse)
        await asking.close()
        assert len(model.requests) == 1


@both_ways
async def test_cancelling_ends_the_request_at_once(on_delta: Any) -> None:
    with ScriptedModel(script(turn(drip=0.05, delay=0.05, endless=True))) as model:
        asking = client(model)
        task = asyncio.create_task(asking.ask(request(), on_delta=on_delta))
        deadline = time.monotonic() + 5
        while not model.requests and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asking.close()
