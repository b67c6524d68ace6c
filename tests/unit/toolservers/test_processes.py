"""Which commands may be started, and with what environment."""

import sys
from pathlib import Path

import pytest

from toolservers.definition import ServerDefinition
from toolservers.errors import StdioCommandNotAllowed, ToolServerUnavailable
from toolservers.processes import child_environment, resolve_command


def stdio(command: str) -> ServerDefinition:
    return ServerDefinition(
        server_id=1, environment_id=1, name="s", transport="stdio", command=command
    )


@pytest.mark.parametrize("command", ["sh", "/bin/sh"])
def test_an_allowed_command_is_found(command: str) -> None:
    assert resolve_command(stdio(command), [command]).endswith("/sh")


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        ("sh", []),
        ("sh", ["/bin/sh"]),
        ("/bin/sh", ["sh"]),
        ("/bin/../bin/sh", ["/bin/sh"]),
        ("SH", ["sh"]),
        ("", ["sh"]),
        ("sh -c", ["sh"]),
        ("./sh", ["./sh"]),
    ],
)
def test_only_what_is_literally_on_the_list_is_allowed(command: str, allowed: list[str]) -> None:
    with pytest.raises(StdioCommandNotAllowed) as caught:
        resolve_command(stdio(command), allowed)
    assert caught.value.code == "stdio_command_not_allowed"
    assert caught.value.permanent
    assert not caught.value.outcome_unknown


def test_a_command_this_machine_lacks_is_a_permanent_failure() -> None:
    with pytest.raises(ToolServerUnavailable, match="no executable 'no-such-thing'") as caught:
        resolve_command(stdio("no-such-thing"), ["no-such-thing"])
    assert caught.value.permanent


def test_the_workers_environment_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STN_ENCRYPTION_KEY", "top secret")
    monkeypatch.setenv("PROXY", "p")
    environment = child_environment({"OWN": "1", "LANG": "xx"}, ["PROXY", "ABSENT"])
    assert environment["PROXY"] == "p"
    assert environment["OWN"] == "1"
    assert environment["LANG"] == "xx"
    assert set(environment) <= {"PATH", "HOME", "LANG", "PROXY", "OWN"}


def test_the_leash_needs_only_the_standard_library() -> None:
    from toolservers.processes import LEASH

    imported = {
        line.split()[1] for line in Path(LEASH).read_text().splitlines() if line[:7] == "import "
    }
    assert imported <= sys.stdlib_module_names
