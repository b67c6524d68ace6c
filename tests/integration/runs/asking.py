"""What the tests of the model client share: a script to ask, a client, a request, a clock."""

import time
from typing import Any

import pytest

from runs.llm.client import LiteLlmClient
from runs.llm.library import load
from runs.ports import Message, ModelFailure, ModelRequest
from runs.scripted.testing import ScriptedModel

KEY = "f81d4fae-a-key-of-no-known-shape"

both_ways = pytest.mark.parametrize(
    "on_delta", [None, lambda text: None], ids=["plain", "streamed"]
)


def turn(**fields: Any) -> dict[str, Any]:
    return {"say": "All is well here.", **fields}


class Timeline:
    """A clock that only its own sleep moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def client(model: ScriptedModel, timeline: Timeline | None = None, **options: Any) -> LiteLlmClient:
    """A client of that server; with a timeline, waits take no time and have no jitter."""
    load()
    if timeline:
        options |= {
            "clock": timeline.clock,
            "sleep": timeline.sleep,
            "jitter": lambda longest: longest,
        }
    settings: dict[str, Any] = {
        "provider": "openai",
        "api_key": KEY,
        "base_url": model.base_url,
        "max_retries": 0,
    }
    return LiteLlmClient(**(settings | options))


def request(model: str = "m", *, deadline: float | None = None, **fields: Any) -> ModelRequest:
    settings: dict[str, Any] = {
        "model": model,
        "messages": (Message(role="user", content="How is it?"),),
        "parameters": {},
        "deadline": time.monotonic() + 30 if deadline is None else deadline,
    }
    return ModelRequest(**(settings | fields))


def script(*turns: dict[str, Any], name: str = "m") -> list[dict[str, Any]]:
    return [{"name": name, "turns": list(turns)}]


async def failure_of(scenarios: list[dict[str, Any]], on_delta: Any = None) -> ModelFailure:
    with ScriptedModel(scenarios) as model:
        asking = client(model)
        try:
            with pytest.raises(ModelFailure) as caught:
                await asking.ask(request(), on_delta=on_delta)
        finally:
            await asking.close()
    return caught.value
