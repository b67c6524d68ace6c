"""A model that loops, floods, drips and lies: every run ends in time and says why."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from runs.entries import Kind
from runs.models import Run, RunEvent
from runs.scripted.testing import ScriptedModel
from tests import factories
from tests.acceptance.runs import hostile_stage
from tests.acceptance.runs.hostile_stage import (
    MEBIBYTE,
    Memory,
    Played,
    Step,
    play,
)
from tests.acceptance.runs.stage import Stage, call
from tests.processes import Process

pytestmark = pytest.mark.django_db(transaction=True)
SLOTS = 16
STEPS = 5
TIMEOUT = 15.0
SLACK = 5.0
"""How late a timer may be on a machine that is busy with all of this."""
WITHIN = 120.0
MOST_CALLS = 64
GROWTH = 250 * MEBIBYTE
COPIES = 2
_DONE = {"say": "done"}


def _raw(arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"name": "tools__append_line", "raw_arguments": arguments}]}


def _flood(tool: str, times: int) -> dict[str, Any]:
    return {"tool_calls": call(tool)["tool_calls"] * times}


def _for_ever(name: str, turn: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "turns": [turn], "after_last": "repeat"}


CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    # name: (script, status, code)
    "loops": (_for_ever("loops", call("whoami")), "failed", "max_steps_reached"),
    "unknown-tools": (
        _for_ever("unknown-tools", call("rm_rf", server="root")),
        "failed",
        "max_steps_reached",
    ),
    "broken-json": (_for_ever("broken-json", _raw('{"text": ')), "failed", "max_steps_reached"),
    "deep-json": (_for_ever("deep-json", _raw("[" * 100_000)), "failed", "max_steps_reached"),
    "no-object": (_for_ever("no-object", _raw("[1]")), "failed", "max_steps_reached"),
    "wrong-arguments": (
        _for_ever("wrong-arguments", _raw('{"text": 7}')),
        "failed",
        "max_steps_reached",
    ),
    "huge-arguments": (
        _for_ever("huge-arguments", _raw(json.dumps({"text": "x" * MEBIBYTE}))),
        "failed",
        "max_steps_reached",
    ),
    "flood": ({"name": "flood", "turns": [_flood("whoami", 500), _DONE]}, "succeeded", ""),
    "flood-of-nonsense": (
        _for_ever("flood-of-nonsense", _flood("nothing", 500)),
        "failed",
        "max_steps_reached",
    ),
    "endless": (_for_ever("endless", {"endless": True}), "failed", "model_malformed"),
    "endless-drip": (
        _for_ever("endless-drip", {"endless": {}, "drip": "50ms"}),
        "timed_out",
        "timeout",
    ),
    "slow-drip": (
        _for_ever("slow-drip", {"say": "word " * 500, "drip": "200ms"}),
        "timed_out",
        "timeout",
    ),
    "stalls": (
        _for_ever("stalls", {"say": "one two", "drip": "60s"}),
        "failed",
        "model_unavailable",
    ),
    "silent": (_for_ever("silent", {"say": "late", "delay": "60s"}), "failed", "model_unavailable"),
    "says-nothing": (_for_ever("says-nothing", {"say": ""}), "succeeded", ""),
    "nul": (_for_ever("nul", {"say": "a\0b"}), "succeeded", ""),
    "big-answer": (_for_ever("big-answer", {"say": "y" * (2 * MEBIBYTE)}), "succeeded", ""),
    "too-big-answer": (
        _for_ever("too-big-answer", {"say": "y" * (5 * MEBIBYTE)}),
        "failed",
        "model_malformed",
    ),
    "cut": (_for_ever("cut", {"say": "one two", "break": 1}), "failed", "model_unavailable"),
    **{
        how: (_for_ever(how, {"malformed": how}), "failed", "model_malformed")
        for how in ("not_json", "wrong_shape", "empty", "html")
    },
    "refuses": (
        _for_ever("refuses", {"error": {"status": 500}}),
        "failed",
        "model_unavailable",
    ),
}


@pytest.fixture(scope="module")
def hostile() -> Iterator[ScriptedModel]:
    ordinary = {"name": "answer", "turns": [_DONE]}
    with ScriptedModel([ordinary, *(script for script, _, _ in CASES.values())]) as model:
        yield model


@pytest.fixture(scope="module")
def played(
    worker: Process, hostile: ScriptedModel, tmp_path_factory: pytest.TempPathFactory
) -> Played:
    """Every case, several times at once."""
    stage = Stage(hostile, tmp_path_factory.mktemp("stage"))
    stage.rehearse()
    before = Memory(worker).now
    runs = {
        f"{name} {copy}": factories.run(agent, timeout=TIMEOUT)
        for name in CASES
        for agent in [
            factories.agent(
                stage.environment, name.replace("_", "-"), model=name, tools=["tools/*"],
                max_steps=STEPS,
            )
        ]
        for copy in range(COPIES)
    }  # fmt: skip
    return play(worker, runs, before=before, within=WITHIN)


def _of(played: Played, name: str) -> list[tuple[Run, Sequence[Step]]]:
    """The copies of a case, each with its journal."""
    keys = [f"{name} {copy}" for copy in range(COPIES)]
    return [(played.rows[key], played.journals[key]) for key in keys]


def _entries(journal: Sequence[Step], kind: Kind) -> list[Step]:
    return [step for step in journal if step.kind == kind]


@pytest.mark.parametrize("name", CASES)
def test_a_run_with_such_a_model_ends_and_says_why(played: Played, name: str) -> None:
    _, status, code = CASES[name]
    for run, journal in _of(played, name):
        assert (run.status, run.error_code) == (status, code), run.error_message
        assert bool(run.error_message) == bool(code)
        assert run.running_ms / 1000 < TIMEOUT + SLACK
        assert run.steps <= STEPS
        assert [step.seq for step in journal] == list(range(1, run.last_seq + 1))
        assert [step.kind for step in journal].index(Kind.FINISHED) == len(journal) - 1


def test_of_a_flood_of_calls_as_many_are_made_as_one_answer_may_ask_for(played: Played) -> None:
    for _, journal in _of(played, "flood"):
        assert len(_entries(journal, Kind.TOOL_CALLED)) == MOST_CALLS
        assert len(_entries(journal, Kind.TOOL_RETURNED)) == 500


@pytest.mark.parametrize(
    "name", ["unknown-tools", "broken-json", "deep-json", "wrong-arguments", "huge-arguments"]
)
def test_a_call_that_cannot_be_made_is_not_made_and_the_model_reads_why(
    played: Played, name: str
) -> None:
    for _, journal in _of(played, name):
        assert not _entries(journal, Kind.TOOL_CALLED)
        results = _entries(journal, Kind.TOOL_RETURNED)
        assert len(results) == STEPS
        assert all(result.is_error for result in results)


def test_the_workers_memory_stays_bounded(
    played: Played, worker: Process, record_property: Any
) -> None:
    figures: Mapping[str, int] = {"peak": played.growth, "kept": played.kept}
    for name, growth in figures.items():
        record_property(f"memory_{name}_mib", growth // MEBIBYTE)
    assert played.growth < GROWTH


def test_the_worker_goes_on_with_ordinary_work(
    played: Played, worker: Process, hostile: ScriptedModel, stage: Stage
) -> None:
    run = stage.submit("answer", tools=())
    ended = hostile_stage.play(worker, {"ordinary": run}, before=0, within=10).rows["ordinary"]
    assert (ended.status, ended.output) == ("succeeded", "done")
    assert RunEvent.objects.filter(run=run, kind=Kind.CLAIMED.value).count() == 1
