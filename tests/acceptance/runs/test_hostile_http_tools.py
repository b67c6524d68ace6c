"""Tool servers that hang, flood, die and lie over HTTP: runs end or ask a person, all is let go."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from agents.models import Agent
from runs.entries import Kind
from runs.scripted.testing import ScriptedModel
from tests import factories
from tests.acceptance.runs.hostile_stage import (
    KEPT,
    MEBIBYTE,
    Memory,
    Played,
    kept_of_another_round,
    play,
)
from tests.acceptance.runs.stage import call
from tests.acceptance.runs.wrong_answers import ANSWERS, EVENTS
from tests.acceptance.runs.wrong_http import MESSAGES, WrongServer
from tests.processes import Process, until
from toolservers import services as toolservers
from toolservers.models import Tool, ToolServer

pytestmark = pytest.mark.django_db(transaction=True)
SLOTS = 32
TIMEOUT = 60.0
WITHIN = 90.0
GROWTH = 250 * MEBIBYTE
_DONE = {"say": "done"}
_TRANSPORTS = ("http", "sse")
_TOOLS = ("look", "note")
_FLOODS = ("a-gigabyte", "gigabyte-look", "event-look", "comments-look", "long-pages")
_LASTING = {f"/sse/call/{mode}" for mode in ("says-nothing", "drips-an-event", "nonsense")}
_CALLS = [f"{over}-call-{mode}" for over in _TRANSPORTS for mode in ANSWERS | EVENTS]
_REFUSED = {
    f"http-call-{mode}" for mode in ("redirects-in-a-loop", "redirects-elsewhere", "turns-away")
}
"""The server turned the call away: nothing happened, and the model is told."""
_HANDSHAKES = [
    f"{over}-handshake-{mode}"
    for over in _TRANSPORTS
    for mode in (*ANSWERS, *EVENTS, *MESSAGES)
    if (over, mode) != ("sse", "forgets")
]


@pytest.fixture(scope="module")
def hostile() -> Iterator[ScriptedModel]:
    scripts = [
        {"name": f"{name}-{tool}", "turns": [call(tool, server=name), _DONE]}
        for name in _CALLS
        for tool in _TOOLS
    ]
    with ScriptedModel([{"name": "answer", "turns": [_DONE]}, *scripts]) as model:
        yield model


@pytest.fixture(scope="module")
def server() -> Iterator[WrongServer]:
    with WrongServer() as listening:
        yield listening


@pytest.fixture(scope="module")
def agents(worker: Process, server: WrongServer) -> dict[str, Agent]:
    """One for each call and each handshake; the tools that only look are known and approved."""
    where = factories.environment()
    for name in (*_CALLS, *_HANDSHAKES):
        over, when, mode = name.split("-", 2)
        ToolServer.objects.create(
            environment=where,
            name=name,
            transport=over,
            url=server.url(f"{over}/{when}/{mode}"),
            headers={"Authorization": "Bearer abc"},
        )

    def agent(name: str, script: str = "answer") -> Agent:
        return factories.agent(where, model=script, tools=[f"{name}/*"])

    play(worker, {name: factories.run(agent(name)) for name in _CALLS}, before=0, within=WITHIN)
    for tool in Tool.objects.filter(server__environment=where, name="look"):
        toolservers.approve(factories.OPERATOR, tool)
    calls = {f"{name}-{tool}": agent(name, f"{name}-{tool}") for name in _CALLS for tool in _TOOLS}
    return calls | {name: agent(name) for name in _HANDSHAKES}


@pytest.fixture(scope="module")
def played(worker: Process, agents: Mapping[str, Agent]) -> Played:
    """Everything at once."""
    before = Memory(worker).now
    runs = {name: factories.run(agent, timeout=TIMEOUT) for name, agent in agents.items()}
    return play(worker, runs, before=before, within=WITHIN)


@pytest.mark.parametrize("name", _CALLS)
def test_a_call_that_only_looks_fails_and_the_run_goes_on(played: Played, name: str) -> None:
    run, steps = played.rows[f"{name}-look"], played.journals[f"{name}-look"]
    assert (run.status, run.output) == ("succeeded", "done"), run.error_message
    assert [step.is_error for step in steps if step.kind == Kind.TOOL_RETURNED] == [True]


@pytest.mark.parametrize("name", [name for name in _CALLS if name not in _REFUSED])
def test_a_call_that_may_have_written_waits_for_a_person(played: Played, name: str) -> None:
    run, steps = played.rows[f"{name}-note"], played.journals[f"{name}-note"]
    assert (run.status, run.wait_reason) == ("waiting", "doubt"), run.error_message
    kinds = [step.kind for step in steps]
    assert kinds.count(Kind.TOOL_CALLED) == 1
    assert Kind.TOOL_RETURNED not in kinds


@pytest.mark.parametrize("name", sorted(_REFUSED))
def test_a_call_that_was_turned_away_is_told_to_the_model(played: Played, name: str) -> None:
    run, steps = played.rows[f"{name}-note"], played.journals[f"{name}-note"]
    assert (run.status, run.output) == ("succeeded", "done"), run.error_message
    assert [step.is_error for step in steps if step.kind == Kind.TOOL_RETURNED] == [True]


@pytest.mark.parametrize("name", _HANDSHAKES)
def test_a_server_that_cannot_be_understood_fails_the_run_by_name(
    played: Played, name: str
) -> None:
    run = played.rows[name]
    assert (run.status, run.error_code) == ("failed", "tools_unavailable"), run.error_message
    assert f"'{name}'" in run.error_message


def test_no_redirect_takes_a_request_elsewhere(played: Played, server: WrongServer) -> None:
    assert not server.astray


def test_the_workers_memory_stays_bounded_by_its_tools(
    played: Played, record_property: Any
) -> None:
    record_property("memory_peak_mib", played.growth // MEBIBYTE)
    record_property("memory_kept_mib", played.kept // MEBIBYTE)
    assert played.growth < GROWTH


def test_more_of_the_same_leaves_no_more_behind(
    played: Played, worker: Process, agents: Mapping[str, Agent], record_property: Any
) -> None:
    floods = {name: agent for name, agent in agents.items() if name.endswith(_FLOODS)}
    kept = kept_of_another_round(worker, floods, rounds=2, within=WITHIN)
    record_property("memory_kept_by_more_mib", kept // MEBIBYTE)
    assert kept < KEPT


def test_no_answer_is_listened_to_any_more(played: Played, server: WrongServer) -> None:
    """But for legacy streams on which little comes: they belong to sessions, not to calls."""
    until(lambda: not [path for path in +server.open if path not in _LASTING], within=10)


def test_a_worker_that_stops_lets_go_of_every_connection(
    played: Played, worker: Process, server: WrongServer
) -> None:
    worker.terminate()
    assert worker.wait() == 0
    until(lambda: not +server.open, within=5, what="the end of every answer")
