"""What a scenario file may say, and what its replies can quote."""

import json
from pathlib import Path
from typing import Any

import pytest

import runs.scripted
from runs.scripted.scenario import Script
from runs.scripted.template import Conversation, render
from station.core.errors import InvalidInput

DEMO = Path(runs.scripted.__file__).with_name("demo.yaml")


def conversation(*, task: str = "How is it?", **results: Any) -> Conversation:
    """A conversation in which each named tool was called once and gave this result."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": task}]
    for name, result in results.items():
        call = {"id": f"id-{name}", "function": {"name": name, "arguments": "{}"}}
        text = result if isinstance(result, str) else json.dumps(result)
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"id-{name}", "content": text})
    return Conversation.of(messages)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("It is {{input}}", "It is How is it?"),
        ("{{tool.look.json.size}} pieces", "3 pieces"),
        ("{{tool.look.json.size}}", 3),
        ("{{tool.look.json.items.1.name}}", "b"),
        ("{{tool.look.json.ratio | round:1}} %", "12.3 %"),
        ("{{tool.look.json.bytes | bytes}}", "1.5 GiB"),
        ("{{tool.look.json.items | each:- {name}: {size:bytes} }}", "- a: 5 B\n- b: 2.0 KiB"),
        ("{{tool.look.json.items.0 | json}}", '{"name": "a", "size": 5}'),
        ("{{input | match:How (\\w+)}}", "is"),
        ("{{input | match:[0-9]+ | default:none}}", "none"),
        ("{{tool.plain.text}}", "not json"),
        ("{{tool.plain.json.x | default:unknown}}", "unknown"),
        ("{{tool.look.json.absent}}", "(no tool.look.json.absent)"),
        ("{{tool.never.json.x}} there", "(no tool.never.json.x) there"),
        ("{{tool.look.json.size | shout}}", "(no filter shout)"),
        ({"a": ["{{tool.look.json.size}}", 1]}, {"a": [3, 1]}),
    ],
)
def test_a_reply_quotes_the_conversation(template: Any, expected: Any) -> None:
    look = {
        "size": 3,
        "ratio": 12.345,
        "bytes": 1610612736,
        "items": [{"name": "a", "size": 5}, {"name": "b", "size": 2048}],
    }
    assert render(template, conversation(look=look, plain="not json")) == expected


def test_the_latest_result_of_a_tool_is_quoted() -> None:
    call = [{"id": "1", "function": {"name": "look"}}, {"id": "2", "function": {"name": "look"}}]
    messages = [
        {"role": "assistant", "tool_calls": call},
        {"role": "tool", "tool_call_id": "1", "content": "first"},
        {"role": "tool", "tool_call_id": "2", "content": "second"},
    ]
    assert render("{{tool.look.text}}", Conversation.of(messages)) == "second"


def test_the_turn_is_the_number_of_assistant_messages() -> None:
    assert conversation().turn == 0
    assert conversation(a="x", b="y").turn == 2


@pytest.mark.parametrize("messages", [[None], ["text"], [{}], [{"role": "tool"}], [{"role": 3}]])
def test_messages_without_meaning_are_passed_over(messages: list[Any]) -> None:
    assert Conversation.of(messages).turn == 0


def test_the_first_scenario_that_matches_model_and_task_is_chosen() -> None:
    turns = [{"say": "x"}]
    script = Script.parse(
        {
            "scenarios": [
                {"name": "rain", "models": ["m"], "when": "umbrella", "turns": turns},
                {"name": "other", "models": ["m", "n"], "turns": turns},
                {"name": "z", "turns": turns},
                {"name": "any", "models": ["*"], "when": "anything", "turns": turns},
            ]
        }
    )
    chosen = {
        (model, task): getattr(script.choose(model, task), "name", None)
        for model in ("m", "n", "z", "?")
        for task in ("bring an umbrella", "no", "anything")
    }
    assert chosen == {
        ("m", "bring an umbrella"): "rain",
        ("m", "no"): "other",
        ("m", "anything"): "other",
        ("n", "bring an umbrella"): "other",
        ("n", "no"): "other",
        ("n", "anything"): "other",
        ("z", "bring an umbrella"): "z",
        ("z", "no"): "z",
        ("z", "anything"): "z",
        ("?", "bring an umbrella"): None,
        ("?", "no"): None,
        ("?", "anything"): "any",
    }
    assert script.models == ["m", "n", "z"]


@pytest.mark.parametrize(
    ("after_last", "expected"), [("stop", [0, 1, None]), ("repeat", [0, 1, 1]), ("loop", [0, 1, 0])]
)
def test_a_script_that_has_ended_stops_repeats_or_loops(
    after_last: str, expected: list[int | None]
) -> None:
    turns = [{"say": "0"}, {"say": "1"}]
    script = Script.parse({"scenarios": [{"name": "s", "after_last": after_last, "turns": turns}]})
    said = [script.scenarios[0].turn(number) for number in range(3)]
    assert [None if turn is None else int(turn.say) for turn in said] == expected


@pytest.mark.parametrize(
    ("written", "seconds"), [("1s", 1.0), ("250ms", 0.25), ("2m", 120.0), (1.5, 1.5), ("0s", 0.0)]
)
def test_durations_have_units(written: str | float, seconds: float) -> None:
    script = Script.parse({"scenarios": [{"name": "s", "turns": [{"delay": written}]}]})
    assert script.scenarios[0].turns[0].delay == seconds


@pytest.mark.parametrize(
    ("turn", "path"),
    [
        ({"sya": "x"}, "sya"),
        ({"delay": "soon"}, "delay"),
        ({"delay": -1}, "delay"),
        ({"error": {"status": 200}}, "error.status"),
        ({"malformed": "nonsense"}, "malformed.how"),
        ({"tool_calls": [{}]}, "tool_calls.0.name"),
    ],
)
def test_a_wrong_field_is_refused_by_its_path(turn: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Script.parse({"scenarios": [{"name": "s", "turns": [turn]}]}, source="demo")
    assert caught.value.field == f"demo: scenarios.0.turns.0.{path}"


@pytest.mark.parametrize("content", [b"\xff", b"a: [", b"- 1", b""])
def test_a_file_that_is_no_scenario_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"scenario\.yaml"):
        Script.load(file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        Script.load(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("task", "root"),
    [
        ("Look below /var/log.", "/var/log"),
        ("Check `/srv/a-b/c.d`, please", "/srv/a-b/c.d"),
        ("What fills / today?", "/"),
        ("How is this machine and/or its disk?", "."),
    ],
)
def test_the_demo_looks_at_the_folder_named_in_the_task(task: str, root: str) -> None:
    turn = Script.load(DEMO).scenarios[0].turns[1]
    assert turn.tool_calls[0].name == "machine__biggest_folders"
    assert render(turn.tool_calls[0].arguments, conversation(task=task))["root"] == root


def test_the_demo_reports_what_the_tools_answered_and_says_that_it_is_a_script() -> None:
    report = render(
        Script.load(DEMO).scenarios[0].turns[2].say,
        conversation(
            machine__machine_load={"one_minute": 0.51, "fifteen_minutes": 0.2, "processors": 8},
            machine__memory_usage={"used_percent": 41.2, "total": 2**34, "available": 2**33},
            machine__disk_usage={
                "disks": [{"mount": "/srv", "used_percent": 93.1, "total": 2**40, "free": 2**36}]
            },
            machine__biggest_folders={
                "root": "/srv",
                "folders": [{"path": "/srv/logs", "bytes": 3 * 2**30, "files": 12}],
            },
        ),
    )
    assert "0.51 over one minute, 0.2 over fifteen, on 8 processors" in report
    assert "41 % of 16.0 GiB used, 8.0 GiB available" in report
    assert "/srv is 93 % full, 64.0 GiB of 1.0 TiB free" in report
    assert "below /srv:\n- /srv/logs: 3.0 GiB\n" in report
    assert "played from a script; no AI was asked" in report
    assert "(no " not in report
