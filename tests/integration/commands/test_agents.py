"""agent list, show, create, apply, export and its switches."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from agents.models import Agent, AgentVersion
from station.core.principal import Principal, Role
from tests import factories
from tests.unit.commands.seats import Outcome

pytestmark = pytest.mark.django_db
Station = Callable[..., Outcome]
Parsed = Callable[..., Any]
HELPER = """\
name: helper
environment: prod
description: It helps.
prompt: |
  You help.
  Be brief.
model: openai/gpt-4
tools: [machine/*]
parameters: {temperature: 0.5}
timeout: 5m
"""
OTHER = "name: other\nenvironment: prod\nprompt: You look.\n"


def test_an_agent_is_created_from_options(station: Station, parsed: Parsed) -> None:
    factories.environment("prod")
    done = station(
        "agent", "create", "helper", "--env", "prod", "--prompt", "@-", "--tool", "machine/*",
        "--tool", "mail/send", "--parameters", '{"temperature": 0.5}', "--timeout", "5m",
        "--max-steps", "3", "--output-schema", '{"type": "object"}',
        "--retry", '{"on": ["model_unavailable"], "backoff": "1m"}', stdin="You help.",
    )  # fmt: skip
    assert done.code == 0
    definition = parsed("agent", "show", "helper")["definition"]
    assert definition == {
        "prompt": "You help.", "model": "", "fallback_models": [],
        "parameters": {"temperature": 0.5}, "tools": ["machine/*", "mail/send"], "max_steps": 3,
        "timeout": 300.0, "output_schema": {"type": "object"},
        "retry": {"on": ["model_unavailable"], "at_most": 3, "backoff": 60.0, "longest": 300.0},
    }  # fmt: skip
    assert [each["name"] for each in parsed("agent", "list", "--env", "prod")] == ["helper"]


def test_an_agent_is_shown_to_a_person(station: Station) -> None:
    retry = {"on": ["model_unavailable", "tools_unavailable"], "longest": 120}
    agent = factories.agent(
        name="helper", prompt="You help.\nBe \x1b[2Jbrief.", timeout=90, retry=retry
    )
    out = station("agent", "show", str(agent.pk)).out
    assert "state        enabled" in out
    assert "timeout      1 m 30 s" in out
    assert (
        "retries      at most 3, on model_unavailable, tools_unavailable; "
        "after 10 s, doubling up to 2 m 00 s\n"
    ) in out
    assert out.endswith("\nprompt\n  You help.\n  Be [2Jbrief.\n")
    assert "helper" in station("agent", "list").out


def test_apply_makes_changes_and_keeps(station: Station) -> None:
    factories.environment("prod")

    def applied(text: str) -> str:
        done = station("agent", "apply", "-f", "-", stdin=text)
        assert (done.code, done.err) == (0, "")
        return done.out

    assert applied(HELPER) == "Agent helper in prod: made.\n"
    assert applied(HELPER) == "Agent helper in prod: unchanged.\n"
    assert applied(HELPER.replace("brief", "long")) == "Agent helper in prod: changed, version 2.\n"
    assert applied(HELPER.replace("brief", "long") + "paused: true\n") == (
        "Agent helper in prod: changed.\n"
    )
    agent = Agent.objects.get()
    assert (agent.paused, agent.description, AgentVersion.objects.count()) == (True, "It helps.", 2)
    assert agent.current_version is not None
    assert agent.current_version.timeout == 300


def test_what_is_exported_applies_unchanged(station: Station) -> None:
    factories.environment("prod")
    station("agent", "apply", "-f", "-", stdin=HELPER + "enabled: false\n")
    exported = station("agent", "export", "helper").out
    assert "prompt: |\n  You help.\n  Be brief.\n" in exported
    assert yaml.safe_load(exported) == yaml.safe_load(HELPER + "enabled: false\n")
    assert station("agent", "apply", "-f", "-", stdin=exported).out.endswith("unchanged.\n")


def test_a_retry_policy_travels_in_documents(station: Station) -> None:
    factories.environment("prod")
    text = HELPER + "retry: {on: [model_unavailable], at_most: 5, longest: 1h}\n"
    assert station("agent", "apply", "-f", "-", stdin=text).code == 0
    version = Agent.objects.get().current_version
    assert version is not None
    assert version.retry == {
        "on": ["model_unavailable"], "at_most": 5, "backoff": 10.0, "longest": 3600.0,
    }  # fmt: skip
    exported = station("agent", "export", "helper").out
    assert yaml.safe_load(exported)["retry"] == {
        "on": ["model_unavailable"], "at_most": 5, "backoff": "10s", "longest": "1h",
    }  # fmt: skip
    assert station("agent", "apply", "-f", "-", stdin=exported).out.endswith("unchanged.\n")


def test_several_agents_travel_in_one_file_to_another_environment(station: Station) -> None:
    one = factories.environment("one")
    factories.environment("two")
    factories.agent(one, "a")
    factories.agent(one, "b")
    exported = station("agent", "export", "a", "b").out.replace("environment: one\n", "")
    assert station("agent", "apply", "-f", "-", stdin=exported).code == 2
    assert station("agent", "apply", "-f", "-", "--env", "two", stdin=exported).code == 0
    assert Agent.objects.filter(environment__name="two").count() == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no document"),
        ("[", "is not YAML"),
        (HELPER + "enabled: !!bool x\n", "is not YAML"),
        (HELPER + "max_steps: !!int ''\n", "is not YAML"),
        (HELPER + "description: !!timestamp x\n", "is not YAML"),
        (HELPER + f"timeout: {'9' * 400}\n", "document 1.timeout: "),
        ("- a", "must be a mapping"),
        ("name: a", "document 1.prompt: is required"),
        (HELPER + "promt: x\n", "Did you mean prompt?"),
        (HELPER + "max_steps: many\n", "document 1.max_steps: must be a whole number"),
        (HELPER + "max_steps: true\n", "document 1.max_steps: must be a whole number"),
        (HELPER + "enabled: 1\n", "document 1.enabled: must be true or false"),
        (HELPER.replace("5m", "5 minutes"), "'5 minutes' is no duration"),
        (HELPER + "output_schema: {default: 2026-01-01}\n", "JSON does not know"),
        (HELPER + "retry: [model_unavailable]\n", "document 1.retry: must be a mapping"),
        (HELPER + "retry: {on: [timeout]}\n", "document 1.retry.on[0]: 'timeout' is no failure"),
        (HELPER + "a: &a [1]\nb: *a\n", "aliases"),
        (HELPER.replace("machine/*", "machine"), "is not a grant"),
        (HELPER.replace("prod", "nowhere"), "Document 1: There is no environment 'nowhere'"),
        (HELPER.replace("environment: prod\n", ""), "document 1.environment: is missing"),
        (HELPER + "prompt: ' '\n", "document 1.prompt: is empty"),
        (f"{HELPER}---\n{OTHER}max_steps: 0\n", "document 2.max_steps: must be"),
        (f"{HELPER}---\n{OTHER}max_running: 0\n", "document 2.max_running: must be"),
        (f"{HELPER}---\n{OTHER}tools: [x]\n", "document 2.tools[0]: 'x' is not a grant"),
        (f"{HELPER}---\n{OTHER.replace('other', 'Not Valid')}", "document 2.name: Use lower-case"),
        (f"{HELPER}---\n{OTHER.replace('prod', 'two')}", "Document 2: There is no environment"),
        (f'{HELPER}---\n{OTHER}model: "\\0"\n', "document 2.model: contains a NUL"),
    ],
)
def test_a_bad_file_changes_nothing(station: Station, text: str, words: str) -> None:
    factories.environment("prod")
    done = station("agent", "apply", "-f", "-", stdin=text)
    assert done.code in (2, 3)
    assert words in done.err
    assert done.out == ""
    assert not Agent.objects.exists()


def test_a_file_with_several_documents_is_applied_whole_and_in_order(
    station: Station, parsed: Parsed
) -> None:
    factories.environment("prod")
    text = f"{OTHER}---\n{HELPER}"
    lines = station("agent", "apply", "-f", "-", stdin=text).out.splitlines()
    assert lines == ["Agent other in prod: made.", "Agent helper in prod: made."]
    changed = text.replace("You look.", "You see.")
    applied = parsed("agent", "apply", "-f", "-", stdin=changed)
    assert [(each["name"], each["outcome"]) for each in applied] == [
        ("other", "changed, version 2"),
        ("helper", "unchanged"),
    ]
    bad = station("agent", "apply", "-f", "-", "--json", stdin=f"{text}---\n{OTHER}max_steps: 0\n")
    assert (bad.code, bad.out) == (2, "")
    assert json.loads(bad.err)["error"]["errors"][0]["field"] == "document 3.max_steps"
    assert AgentVersion.objects.count() == 3


def test_who_may_not_change_one_agent_of_a_file_changes_none(station: Station) -> None:
    one, two = factories.environment("prod"), factories.environment("two")
    roles = {one.pk: Role.OPERATOR, two.pk: Role.VIEWER}
    half = Principal(kind="user", id="1", label="half", user_id=1, roles=roles)
    text = f"{HELPER}---\n{OTHER.replace('prod', 'two')}"
    done = station("agent", "apply", "-f", "-", stdin=text, principal=half)
    assert (done.code, done.out) == (4, "")
    assert done.err.startswith("Error: Document 2: This needs the operator role")
    assert not Agent.objects.exists()


def test_an_agent_named_like_a_number_is_not_taken_for_an_id(station: Station) -> None:
    where = factories.environment("prod")
    other = factories.agent(where, "other")
    document = HELPER.replace("helper", f"'{other.pk}'")
    assert station("agent", "apply", "-f", "-", stdin=document).code == 0
    assert Agent.objects.count() == 2
    other.refresh_from_db()
    assert other.versions.count() == 1


def test_agents_are_listed_by_their_state_and_in_pages(station: Station, parsed: Parsed) -> None:
    one, two = factories.environment("one"), factories.environment("two")
    for where in (two, one):
        for name in ("b", "a"):
            factories.agent(where, name)
    station("agent", "pause", "a", "--env", "one")
    station("agent", "disable", "b", "--env", "two")

    def listed(*words: str) -> list[str]:
        return [f"{row['environment']}/{row['name']}" for row in parsed("agent", "list", *words)]

    assert listed() == ["one/a", "one/b", "two/a", "two/b"]
    assert listed("--paused") == ["one/a"]
    assert listed("--not-paused", "--enabled") == ["one/b", "two/a"]
    assert listed("--disabled") == ["two/b"]
    assert listed("--env", "two", "--enabled") == ["two/a"]
    page = station("agent", "list", "--limit", "3")
    assert len(page.out.splitlines()) == 4
    last = Agent.objects.get(environment=two, name="a").pk
    assert page.err == f"There are more: `--after-id {last}` goes on behind these.\n"
    assert listed("--after-id", str(last)) == ["two/b"]
    assert listed("--after-id", str(last), "--env", "one") == []
    assert station("agent", "list", "--limit", "4").err == ""
    assert station("agent", "list", "--after-id", "999999").code == 3


def test_an_agent_is_switched(station: Station, parsed: Parsed) -> None:
    factories.agent(name="helper")
    assert "its runs wait" in station("agent", "pause", "helper").out
    assert parsed("agent", "show", "helper")["paused"] is True
    assert parsed("agent", "resume", "helper")["paused"] is False
    assert parsed("agent", "disable", "helper")["enabled"] is False
    assert parsed("agent", "enable", "helper")["enabled"] is True
