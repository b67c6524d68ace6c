"""The litellm client against the scripted model server, over real HTTP."""

import asyncio
import json
import subprocess
import sys
import time
from decimal import Decimal
from typing import Any

import pytest

from runs.llm.client import LiteLlmClient
from runs.ports import (
    ContentRefused,
    ContextTooLong,
    Message,
    ModelAuth,
    ModelBadRequest,
    ModelFailure,
    ModelMalformed,
    ModelNotFound,
    ModelRateLimited,
    ModelUnavailable,
    ToolCall,
    ToolSpec,
    UnknownProvider,
    Usage,
)
from runs.scripted.testing import ScriptedModel
from tests.integration.runs.asking import (
    KEY,
    both_ways,
    client,
    failure_of,
    request,
    script,
    turn,
)

LOOK = ToolSpec(name="look", description="Look at a place.", input_schema={"type": "object"})


@both_ways
async def test_an_answer_has_text_tool_calls_usage_and_the_model_that_gave_it(
    on_delta: Any,
) -> None:
    calls = [
        {"name": "look", "arguments": {"place": "Berlin", "deep": {"a": [1, 2]}}},
        {"name": "look", "arguments": {"place": "Köln"}},
        {"name": "nothing"},
    ]
    usage = {"input_tokens": 120, "output_tokens": 30, "cached_tokens": 100}
    with ScriptedModel(script(turn(tool_calls=calls, usage=usage))) as model:
        asking = client(model)
        answer = await asking.ask(request(tools=(LOOK,)), on_delta=on_delta)
        await asking.close()
        received = model.requests[0]
    assert answer.content == "All is well here."
    assert [(c.name, c.arguments) for c in answer.tool_calls] == [
        ("look", {"place": "Berlin", "deep": {"a": [1, 2]}}),
        ("look", {"place": "Köln"}),
        ("nothing", {}),
    ]
    assert len({call.id for call in answer.tool_calls}) == 3
    assert answer.usage == Usage(input_tokens=120, output_tokens=30, cached_tokens=100)
    assert (answer.model, answer.finish_reason, answer.attempts) == ("openai/m", "tool_calls", 1)
    assert received.stream is (on_delta is not None)
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.body["tools"][0]["function"]["name"] == "look"


async def test_a_stream_is_told_in_pieces_that_add_up_to_the_answer() -> None:
    pieces: list[str] = []
    with ScriptedModel(script(turn(say="One two three."))) as model:
        asking = client(model)
        answer = await asking.ask(request(), on_delta=pieces.append)
        await asking.close()
    assert len(pieces) > 1
    assert "".join(pieces) == answer.content == "One two three."


async def test_a_conversation_is_sent_with_its_tool_calls_and_results() -> None:
    call = ToolCall(id="c1", name="look", raw_arguments="{oops")
    messages = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="Look."),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="arguments were not JSON", tool_call_id="c1"),
    )
    with ScriptedModel(script(turn(), turn(say="Second turn."))) as model:
        asking = client(model)
        answer = await asking.ask(request(messages=messages, parameters={"temperature": 0.5}))
        await asking.close()
        sent = model.requests[0].body
    assert answer.content == "Second turn."
    assert [m["role"] for m in sent["messages"]] == ["system", "user", "assistant", "tool"]
    arguments = sent["messages"][2]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"malformed_arguments": "{oops"}
    assert sent["messages"][3]["tool_call_id"] == "c1"
    assert sent["temperature"] == 0.5


@both_ways
@pytest.mark.parametrize("raw", ["{oops", "[1]", '"text"'])
async def test_arguments_that_are_no_json_object_are_handed_on_as_written(
    raw: str, on_delta: Any
) -> None:
    calls = [{"name": "look", "raw_arguments": raw}]
    with ScriptedModel(script(turn(tool_calls=calls))) as model:
        asking = client(model)
        answer = await asking.ask(request(), on_delta=on_delta)
        await asking.close()
    assert answer.tool_calls[0].arguments is None
    assert answer.tool_calls[0].raw_arguments == raw


async def test_a_schema_is_sent_natively_where_known_and_in_words_elsewhere() -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
    with ScriptedModel([{"name": "any", "models": ["*"], "turns": [turn()]}]) as model:
        asking = client(model)
        await asking.ask(request("gpt-4o", output_schema=schema))
        await asking.ask(request("m", output_schema=schema))
        await asking.close()
        native, worded = (received.body for received in model.requests)
    assert native["response_format"]["json_schema"]["schema"] == schema
    assert len(native["messages"]) == 1
    assert "response_format" not in worded
    assert worded["messages"][-1]["role"] == "system"
    assert json.dumps(schema) in worded["messages"][-1]["content"]


async def test_the_cost_is_known_for_listed_models_and_none_for_others() -> None:
    usage = {"input_tokens": 1_000_000, "output_tokens": 1_000_000}
    scenario = {"name": "any", "models": ["*"], "turns": [turn(usage=usage)]}
    with ScriptedModel([scenario]) as model:
        asking = client(model)
        listed = await asking.ask(request("gpt-4"))
        unlisted = await asking.ask(request("scripted-demo"))
        await asking.close()
    assert listed.cost_usd == Decimal("90")  # 30 USD in, 60 USD out a million
    assert unlisted.cost_usd is None


async def test_cached_tokens_cost_less() -> None:
    full = {"input_tokens": 1_000_000, "output_tokens": 0}
    turns = [turn(usage=full), turn(usage={**full, "cached_tokens": 1_000_000})]
    said = Message(role="assistant", content="x")
    hello = Message(role="user", content="x")
    with ScriptedModel([{"name": "any", "models": ["*"], "turns": turns}]) as model:
        asking = client(model)
        fresh = await asking.ask(request("gpt-4o"))
        cached = await asking.ask(request("gpt-4o", messages=(hello, said, hello)))
        await asking.close()
    assert fresh.cost_usd is not None
    assert cached.cost_usd == fresh.cost_usd / 2


@both_ways
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"status": 401}, ModelAuth),
        ({"status": 403}, ModelAuth),
        ({"status": 404}, ModelNotFound),
        ({"status": 400}, ModelBadRequest),
        ({"status": 422}, ModelBadRequest),
        ({"status": 400, "code": "context_length_exceeded"}, ContextTooLong),
        ({"status": 400, "code": "content_policy_violation"}, ContentRefused),
        ({"status": 429}, ModelRateLimited),
        ({"status": 500}, ModelUnavailable),
        ({"status": 502}, ModelUnavailable),
        ({"status": 503}, ModelUnavailable),
        ({"status": 529}, ModelUnavailable),
    ],
)
async def test_a_providers_error_is_typed(
    error: dict[str, Any], expected: type[ModelFailure], on_delta: Any
) -> None:
    failure = await failure_of(script(turn(error=error)), on_delta)
    assert type(failure) is expected
    assert failure.permanent is expected.permanent
    assert "openai/m" in failure.message


@both_ways
@pytest.mark.parametrize("how", ["not_json", "wrong_shape", "empty", "html"])
async def test_an_answer_that_cannot_be_read_is_malformed(how: str, on_delta: Any) -> None:
    failure = await failure_of(script(turn(malformed=how)), on_delta)
    assert type(failure) is ModelMalformed


@both_ways
async def test_an_answer_stopped_by_the_content_filter_is_refused(on_delta: Any) -> None:
    failure = await failure_of(script(turn(finish_reason="content_filter")), on_delta)
    assert type(failure) is ContentRefused


@both_ways
async def test_a_used_up_quota_is_not_waited_for(on_delta: Any) -> None:
    error = {"status": 429, "code": "insufficient_quota", "retry_after": 1}
    failure = await failure_of(script(turn(error=error)), on_delta)
    assert type(failure) is ModelRateLimited
    assert failure.permanent


async def test_an_unknown_provider_is_refused_before_anything_is_sent() -> None:
    with ScriptedModel(script(turn())) as model:
        asking = client(model, provider="nonsense")
        with pytest.raises(UnknownProvider):
            await asking.ask(request())
        await asking.close()
        assert model.requests == ()


async def test_without_a_key_and_an_address_nothing_is_asked() -> None:
    asking = LiteLlmClient(provider="openai")
    with pytest.raises(ModelAuth, match="STN_AI_API_KEY"):
        await asking.ask(request("gpt-4"))
    await asking.close()


@pytest.mark.parametrize("name", ["api_base", "base_url", "api_key", "mock_response", "client"])
async def test_a_parameter_outside_the_list_never_reaches_the_library(name: str) -> None:
    with ScriptedModel(script(turn())) as model:
        asking = client(model)
        with pytest.raises(ModelBadRequest, match=name):
            await asking.ask(request(parameters={name: "http://127.0.0.1:9"}))
        await asking.close()
        assert model.requests == ()


async def test_a_name_with_an_unknown_prefix_belongs_to_the_configured_provider() -> None:
    with ScriptedModel(script(turn(), name="meta-llama/Llama-3")) as model:
        asking = client(model)
        answer = await asking.ask(request("meta-llama/Llama-3"))
        assert (await asking.ask(request("openai/meta-llama/Llama-3"))).content
        await asking.close()
    assert answer.model == "openai/meta-llama/Llama-3"


@both_ways
@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_a_key_the_provider_repeats_is_in_no_error_and_no_log(
    status: int, on_delta: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    error = {"status": status, "message": f"Incorrect API key: {KEY} (Bearer {KEY})"}
    failure = await failure_of(script(turn(error=error)), on_delta)
    chained = [failure, failure.__cause__, failure.__context__]
    assert KEY not in "".join(map(repr, chained)) + str(failure) + caplog.text
    assert "Incorrect API key" in failure.message


async def test_a_foreign_provider_gets_neither_the_key_nor_the_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GROQ_API_BASE", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("GROQ_API_KEY", "other-key")
    with ScriptedModel(script(turn())) as model:
        asking = client(model)
        with pytest.raises(ModelUnavailable):
            await asking.ask(request("groq/llama-3.1-8b-instant"))
        await asking.close()
        assert model.requests == ()


async def test_fifty_requests_at_once_share_the_client() -> None:
    with ScriptedModel(script(turn(delay=0.3))) as model:
        asking = client(model)
        await asking.ask(request())
        started = time.monotonic()
        answers = await asyncio.gather(*(asking.ask(request()) for _ in range(50)))
        await asking.close()
    assert {answer.content for answer in answers} == {"All is well here."}
    assert time.monotonic() - started < 5  # one after the other they would take 15 s


CONNECTS = """
import asyncio, sys, time
seen = []
def audit(event, arguments):
    if event == "socket.connect":
        seen.append(arguments[1])
    elif event == "socket.getaddrinfo":
        seen.append(arguments[:2])
sys.addaudithook(audit)
from runs.llm.client import LiteLlmClient
from runs.ports import Message, ModelRequest
async def main(url):
    asking = LiteLlmClient(provider="openai", api_key="k", base_url=url)
    for on_delta in (None, lambda text: None):
        await asking.ask(
            ModelRequest(
                model="m", messages=(Message(role="user", content="x"),), parameters={},
                deadline=time.monotonic() + 120,
            ),
            on_delta=on_delta,
        )
    await asyncio.sleep(0.5)
    await asking.close()
asyncio.run(main(sys.argv[1]))
print({str(place[0]) for place in seen})
"""


def test_importing_and_asking_connects_to_the_model_only_and_prints_nothing() -> None:
    with ScriptedModel(script(turn())) as model:
        done = subprocess.run(
            [sys.executable, "-c", CONNECTS, model.base_url],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    assert done.stdout == "{'127.0.0.1'}\n"
    assert done.stderr == ""
