"""Environments share workers, and nothing else."""

import json

import pytest

from runs.entries import Kind
from station.accounts import services as accounts
from tests import factories
from tests.acceptance.runs.stage import Stage, events
from tests.processes import Process
from toolservers.hostile import digest

pytestmark = pytest.mark.django_db(transaction=True)


def test_servers_of_the_same_name_are_processes_with_secrets_of_their_own(
    house: list[Process], stage: Stage
) -> None:
    pids: dict[str, set[int]] = {}
    for name in ("red", "blue"):
        where = factories.environment(name)
        accounts.set_variable(
            factories.OPERATOR,
            environment_id=where.pk,
            name="TOKEN",
            value=f"the secret of {name}",
            secret=True,
        )
        stage.add_server(where, env={"SECRET": "${secret:TOKEN}", f"OF_{name.upper()}": "1"})
        agent = factories.agent(where, "same-name", model="who", tools=["tools/*"])
        for run in [factories.run(agent, f"{name} {number}") for number in range(6)]:
            stage.ended(run)
            who, env = (event.payload["text"] for event in events(run, Kind.TOOL_RETURNED))
            told = json.loads(who)
            pids.setdefault(name, set()).add(told["pid"])
            assert told["secret_sha256"] == digest(f"the secret of {name}")
            assert f"OF_{name.upper()}" in env.split(",")
            assert set(env.split(",")) <= {
                "PATH", "HOME", "LANG", "LC_CTYPE", "SECRET", f"OF_{name.upper()}"
            }  # fmt: skip
    assert not pids["red"] & pids["blue"]


def test_the_server_of_another_environment_is_not_there(house: list[Process], stage: Stage) -> None:
    elsewhere = factories.environment()
    agent = factories.agent(elsewhere, model="note", tools=["tools/*"])
    run = stage.ended(factories.run(agent, "reach over"))
    assert (run.status, run.error_code) == ("failed", "tools_unavailable")
    assert stage.effects(run) == 0
    assert stage.asked(run) == 0


def test_a_tool_that_was_not_granted_cannot_be_called(house: list[Process], stage: Stage) -> None:
    run = stage.ended(stage.submit("note", tools=("tools/whoami",)))
    (refused,) = events(run, Kind.TOOL_RETURNED)
    assert refused.payload["is_error"]
    assert "there is no tool" in refused.payload["text"]
    assert not events(run, Kind.TOOL_CALLED)
    assert stage.effects(run) == 0
