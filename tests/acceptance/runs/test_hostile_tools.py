"""Tool servers that hang, flood, die and lie: runs end or ask a person, and no process is left."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from agents.models import Agent
from runs.entries import Kind
from runs.models import Run
from runs.scripted.testing import ScriptedModel
from tests import factories
from tests.acceptance.runs import wrong_tools
from tests.acceptance.runs.hostile_stage import (
    KEPT,
    MEBIBYTE,
    Memory,
    Played,
    kept_of_another_round,
    play,
)
from tests.acceptance.runs.stage import Stage, call
from tests.processes import Process, alive, until
from toolservers.models import ToolServer

pytestmark = pytest.mark.django_db(transaction=True)
SLOTS = 16
TIMEOUT = 60.0
WITHIN = 150.0
GROWTH = 250 * MEBIBYTE
_DONE = {"say": "done"}
_GIGABYTE = 1024

READING: dict[str, dict[str, Any]] = {
    "hangs": call("sleep", seconds=600),
    "ignores-sigterm": call("hang_ignoring_sigterm"),
    "a-gigabyte-without-newline": call("huge", mebibytes=_GIGABYTE),
    "dies": call("crash"),
    "forks-and-hangs": call("fork_child", hang=True),
    "floods-stderr": call("stderr_flood", lines=20_000, length=500),
    "chatters": call("chatter"),
    "answers-50-mib": call("big_text", size=50 * MEBIBYTE),
}
"""Calls of tools that only look: whatever happens, the model is told and the run goes on."""
WRITING = {
    f"writes-then-{then}": call("append_then", text="{{input}}", then=then)
    for then in ("crash", "hang", "garbage")
}
"""Calls that had an effect and gave no answer: a person has to decide."""
HANDSHAKES = {
    "says-nothing": ["-m", "toolservers.testing", "--hang-handshake"],
    "exits-at-once": ["-m", "toolservers.testing", "--crash-handshake"],
    **{
        f"wrong-{mode}": [wrong_tools.__file__, mode]
        for mode in ("http", "version", "shape", "pages", "strangers", "mute", "unusable")
    },
}
"""Servers whose tools nobody ever gets to know."""
MIXED = "mixed"
"""A server some of whose tools cannot be used."""
FLOODS = ("a-gigabyte-without-newline", "answers-50-mib", "writes-then-garbage", "wrong-http")


@pytest.fixture(scope="module")
def hostile() -> Iterator[ScriptedModel]:
    scripts = [{"name": name, "turns": [turn, _DONE]} for name, turn in (READING | WRITING).items()]
    with ScriptedModel([{"name": "answer", "turns": [_DONE]}, *scripts]) as model:
        yield model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stage")


@pytest.fixture(scope="module")
def agents(worker: Process, hostile: ScriptedModel, folder: Path) -> dict[str, Agent]:
    """One for each server, which has an environment of its own."""
    agents: dict[str, Agent] = {}
    for name in READING | WRITING:
        stage = Stage(hostile, folder)
        if name == "ignores-sigterm":
            stage.server.args = [*stage.server.args, "--ignore-sigterm"]
            stage.server.save()
        stage.rehearse()
        agents[name] = stage.agent(name)
    for name, command in {**HANDSHAKES, MIXED: [wrong_tools.__file__, MIXED]}.items():
        stage = Stage(hostile, folder)
        stage.add_server(stage.environment, "wrong", command=command)
        agents[name] = stage.agent("answer", ("wrong/*",))
    return agents


@pytest.fixture(scope="module")
def played(worker: Process, agents: Mapping[str, Agent]) -> Played:
    """Everything at once."""
    before = Memory(worker).now
    runs = {name: factories.run(agent, timeout=TIMEOUT) for name, agent in agents.items()}
    return play(worker, runs, before=before, within=WITHIN)


def _run(played: Played, name: str) -> tuple[Run, list[str]]:
    """A run, and the kinds of its journal."""
    return played.rows[name], [step.kind for step in played.journals[name]]


@pytest.mark.parametrize("name", READING)
def test_a_call_that_only_looks_fails_and_the_run_goes_on(played: Played, name: str) -> None:
    run, kinds = _run(played, name)
    assert (run.status, run.output) == ("succeeded", "done"), run.error_message
    assert kinds.count(Kind.TOOL_RETURNED) == 1
    (returned,) = [step for step in played.journals[name] if step.kind == Kind.TOOL_RETURNED]
    assert returned.is_error == (name != "floods-stderr")


@pytest.mark.parametrize("name", WRITING)
def test_a_call_that_wrote_and_gave_no_answer_waits_for_a_person(played: Played, name: str) -> None:
    run, kinds = _run(played, name)
    assert (run.status, run.wait_reason) == ("waiting", "doubt"), run.error_message
    assert kinds.count(Kind.TOOL_CALLED) == 1
    assert Kind.TOOL_RETURNED not in kinds


@pytest.mark.parametrize("name", HANDSHAKES)
def test_a_server_that_cannot_be_understood_fails_the_run_by_name(
    played: Played, name: str
) -> None:
    run, _ = _run(played, name)
    assert (run.status, run.error_code) == ("failed", "tools_unavailable"), run.error_message
    assert "'wrong'" in run.error_message


def test_a_server_is_used_without_the_tools_that_cannot_be(played: Played) -> None:
    run, _ = _run(played, MIXED)
    assert (run.status, run.output) == ("succeeded", "done"), run.error_message
    server = ToolServer.objects.get(environment=run.environment, name="wrong")
    assert [tool.name for tool in server.tools.filter(available=True)] == ["good"]
    assert len(server.left_out) == 6
    assert server.last_error == ""


def test_the_workers_memory_stays_bounded_by_its_tools(
    played: Played, record_property: Any
) -> None:
    record_property("memory_peak_mib", played.growth // MEBIBYTE)
    record_property("memory_kept_mib", played.kept // MEBIBYTE)
    assert played.growth < GROWTH


def test_more_of_the_same_leaves_no_more_behind(
    played: Played, worker: Process, agents: Mapping[str, Agent], record_property: Any
) -> None:
    floods = {name: agents[name] for name in FLOODS}
    kept = kept_of_another_round(worker, floods, rounds=2, within=WITHIN)
    record_property("memory_kept_by_more_mib", kept // MEBIBYTE)
    assert kept < KEPT


def test_no_child_of_a_server_survives_it(played: Played, folder: Path) -> None:
    """Servers that hung, and what they forked, are gone although the worker goes on."""
    noted = [
        int(line.split()[1])
        for sink in folder.glob("*.sink")
        for line in sink.read_text().splitlines()
        if line.startswith(("child ", "hanging "))
    ]
    assert len(noted) >= 2
    until(lambda: not any(map(alive, noted)), within=10, what="their end")


def test_a_worker_that_stops_leaves_no_process_behind(
    played: Played, worker: Process, folder: Path
) -> None:
    worker.terminate()
    assert worker.wait() == 0
    until(lambda: not _servers(folder), within=5, what="the end of every server")


def _servers(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or ()):
            found.append(process.pid)
    return found
