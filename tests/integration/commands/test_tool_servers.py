"""mcp …, with the demo tool server as a real process."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from station.accounts import principals, services
from station.config import reset
from station.core.principal import Role
from tests import factories
from tests.acceptance.runs import wrong_tools
from tests.unit.commands.seats import Outcome
from toolservers.models import Tool, ToolServer

pytestmark = pytest.mark.django_db(transaction=True)
Station = Callable[..., Outcome]
Parsed = Callable[..., Any]
DEMO = ("--environ", "PYTHONPATH=mcp", "--", sys.executable, "-m", "toolservers.demo_server")


@pytest.fixture(autouse=True)
def python_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The operator lets tool servers run this Python."""
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"mcp": {"stdio_commands": [sys.executable]}}))
    monkeypatch.setenv("STN_CONFIG", str(file))
    reset()
    yield
    monkeypatch.undo()
    reset()


def test_a_server_is_added_with_its_tools_and_tested(station: Station, parsed: Parsed) -> None:
    factories.environment("prod")
    added = station("mcp", "add", "machine", "--env", "prod", *DEMO)
    assert (added.code, added.err) == (0, "")
    assert added.out == "Tool server machine is registered in prod, with 5 tools.\n"
    tested = station("mcp", "test", "machine")
    assert tested.code == 0
    assert "protocol      20" in tested.out
    assert "latency" in tested.out
    assert "machine_load" in tested.out
    shown = parsed("mcp", "test", "machine")
    assert (shown["ok"], len(shown["report"]["tools"])) == (True, 5)
    assert "working" in station("mcp", "list").out
    assert parsed("mcp", "list")[0]["last_error"] == ""


def test_a_server_that_does_not_start_is_added_with_a_warning(
    station: Station, parsed: Parsed
) -> None:
    factories.environment("prod")
    added = station("mcp", "add", "broken", "--env", "prod", "--", sys.executable, "-c", "exit(3)")
    assert added.code == 0
    assert "could not be looked at" in added.err
    assert "`station mcp test broken --env prod`" in added.err
    tested = station("mcp", "test", "broken")
    assert (tested.code, tested.out) == (1, "")
    assert tested.err.startswith("Error: ")
    assert ToolServer.objects.get().last_error
    failed = station("mcp", "test", "broken", "--json")
    assert (failed.code, json.loads(failed.out)["ok"]) == (1, False)
    assert "failing" in station("mcp", "list").out


def test_a_tool_that_went_away_is_marked_by_a_test(station: Station) -> None:
    factories.environment("prod")
    station("mcp", "add", "machine", "--env", "prod", *DEMO)
    server = ToolServer.objects.get()
    Tool.objects.create(server=server, name="old", digest="d")
    assert station("mcp", "test", "machine").code == 0
    assert not Tool.objects.get(name="old").available


def test_tools_that_cannot_be_used_are_left_out_and_named(station: Station, parsed: Parsed) -> None:
    factories.environment("prod")
    wrong = ("--", sys.executable, wrong_tools.__file__)
    added = station("mcp", "add", "wild", "--env", "prod", *wrong, "mixed")
    assert added.code == 0
    assert added.out == "Tool server wild is registered in prod, with 1 tool.\n"
    for told in (added, station("mcp", "test", "wild"), station("mcp", "tools", "wild")):
        assert told.code == 0
        assert "Left out of tool server wild: '': it has no name.\n" in told.err
        assert "wild: 'infinite': its input schema holds a number that is not finite" in told.err
        assert len(told.err.splitlines()) == 6
    assert [tool["name"] for tool in parsed("mcp", "tools")] == ["good"]
    assert len(parsed("mcp", "list")[0]["left_out"]) == 6
    assert len(parsed("mcp", "test", "wild")["report"]["left_out"]) == 6
    station("mcp", "add", "wrong", "--env", "prod", *wrong, "unusable")
    failed = station("mcp", "test", "wrong")
    assert failed.code == 1
    assert "lists no tool that can be used: '': it has no name; 'xxx" in failed.err


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--url", "http://127.0.0.1:1/mcp", "--", "x"),
        ("--sse", "--", "x"),
        ("--url", "ftp://x"),
        ("--", "/bin/not-allowed"),
        ("--url", "http://127.0.0.1:1/mcp", "--header", "nonsense"),
    ],
)
def test_a_server_that_cannot_be_is_not_added(station: Station, words: tuple[str, ...]) -> None:
    factories.environment("prod")
    assert station("mcp", "add", "x", "--env", "prod", *words).code == 2
    assert not ToolServer.objects.exists()


def test_a_tool_is_approved_by_its_digest(station: Station, parsed: Parsed) -> None:
    factories.environment("prod")
    station("mcp", "add", "machine", "--env", "prod", *DEMO)
    (tool,) = [each for each in parsed("mcp", "tools", "machine") if each["name"] == "disk_usage"]
    assert (tool["approved"], tool["repeatable"]) == (False, False)
    assert station("mcp", "approve", "machine/disk_usage", "--digest", "other").code == 5
    assert station("mcp", "approve", "disk_usage", "--digest", tool["digest"]).code == 0
    shown = [each for each in parsed("mcp", "tools") if each["approved"]]
    assert [(each["name"], each["repeatable"]) for each in shown] == [("disk_usage", True)]
    assert station("mcp", "approve", "machine/nothing").code == 3


def test_a_server_is_switched_and_removed(station: Station, parsed: Parsed) -> None:
    factories.environment("prod")
    station("mcp", "add", "far", "--env", "prod", "--url", "http://127.0.0.1:1/mcp",
            "--header", "Authorization=Bearer ${secret:TOKEN}")  # fmt: skip
    assert ToolServer.objects.get().headers == {"Authorization": "Bearer ${secret:TOKEN}"}
    assert parsed("mcp", "disable", "far")["enabled"] is False
    assert parsed("mcp", "enable", "far")["enabled"] is True
    assert station("mcp", "remove", "far").code == 0
    assert not ToolServer.objects.exists()
    assert station("mcp", "remove", "far").code == 3


def test_a_stdio_server_takes_a_platform_admin_and_testing_an_operator(station: Station) -> None:
    where = factories.environment("prod")
    user = services.create_user(factories.OPERATOR, username="ann")
    services.set_role(factories.OPERATOR, username="ann", environment_id=where.pk, role=Role.ADMIN)
    admin = principals.for_user(user)
    assert station("mcp", "add", "m", "--env", "prod", *DEMO, principal=admin).code == 4
    assert not ToolServer.objects.exists()
    station("mcp", "add", "m", "--env", "prod", *DEMO)
    services.set_role(factories.OPERATOR, username="ann", environment_id=where.pk, role=Role.VIEWER)
    viewer = principals.for_user(type(user).objects.get(pk=user.pk))
    assert station("mcp", "test", "m", principal=viewer).code == 4
    assert station("mcp", "tools", "m", principal=viewer).code == 0


def test_a_servers_complaints_are_shown(station: Station) -> None:
    factories.environment("prod")
    complain = "import sys; print('no \\x1b[2Jlicence', file=sys.stderr); sys.exit(3)"
    station("mcp", "add", "sad", "--env", "prod", "--", sys.executable, "-c", complain)
    done = station("mcp", "logs", "sad", "-n", "5")
    assert done.code == 0
    assert "licence" in done.out
    assert "\x1b" not in done.out
