"""env, user, key and variable."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from station.accounts import principals, services
from station.accounts.models import ApiKey, Environment, User, Variable
from station.core.principal import Role
from tests import factories
from tests.unit.commands.seats import Outcome

pytestmark = pytest.mark.django_db
Station = Callable[..., Outcome]
Parsed = Callable[..., Any]
PASSWORD = "a long enough phrase"
SSH_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOrCXY/TPHC1SEDcWGTHti+STWZOBqbA7uQ2D+MF5ajc me@laptop"
)


def test_an_environment_is_made_listed_and_paused(station: Station, parsed: Parsed) -> None:
    assert station("env", "create", "prod", "--description", "The real one").code == 0
    (shown,) = parsed("env", "list")
    assert shown["name"] == "prod"
    assert shown["role"] == "admin"
    assert shown["created_at"].endswith("Z")
    assert "paused" in station("env", "pause", "prod").out
    assert Environment.objects.get().paused
    assert parsed("env", "resume", "prod")["paused"] is False
    assert "The real one" in station("env", "show", "prod").out


def test_a_taken_name_is_a_conflict(station: Station) -> None:
    station("env", "create", "prod")
    done = station("env", "create", "prod")
    assert done.code == 5
    assert done.err == "Error: There is an environment 'prod' already.\n"


def test_what_a_stranger_names_is_not_found_and_what_a_viewer_may_not_is_refused(
    station: Station,
) -> None:
    where = factories.environment("prod")
    viewer = services.create_user(factories.OPERATOR, username="vera")
    stranger = principals.for_user(viewer)
    assert station("env", "show", "prod", principal=stranger).code == 3
    services.set_role(
        factories.OPERATOR, username="vera", environment_id=where.pk, role=Role.VIEWER
    )
    member = principals.for_user(User.objects.get())
    assert station("env", "show", "prod", principal=member).code == 0
    assert station("env", "pause", "prod", principal=member).code == 4
    assert station("env", "create", "other", principal=member).code == 4
    assert not Environment.objects.get().paused


def test_a_user_is_made_and_gets_a_role(station: Station, parsed: Parsed) -> None:
    factories.environment("prod")
    made = station("user", "create", "ann", "--email", "ann@example.org")
    assert (made.code, "`station user password ann`" in made.err) == (0, True)
    assert station("user", "role", "ann", "operator", "--env", "prod").code == 0
    (shown,) = parsed("user", "list")
    assert shown["memberships"] == [{"environment": "prod", "user": "ann", "role": "operator"}]
    assert station("user", "role", "ann", "none", "--env", "prod").code == 0
    assert parsed("user", "list")[0]["memberships"] == []


def test_a_lost_password_is_reset_from_stdin(station: Station) -> None:
    services.create_user(factories.OPERATOR, username="root", platform_admin=True)
    done = station("user", "password", "root", "--password-stdin", stdin=PASSWORD + "\n")
    assert (done.code, done.out) == (0, "")
    assert User.objects.get().check_password(PASSWORD)


def test_a_generated_password_is_printed_once_and_works(station: Station) -> None:
    services.create_user(factories.OPERATOR, username="root")
    done = station("user", "password", "root", "--generate")
    assert User.objects.get().check_password(done.out.strip())


def test_a_password_is_asked_for_twice_at_a_terminal(station: Station) -> None:
    services.create_user(factories.OPERATOR, username="root")
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return PASSWORD

    assert station("user", "password", "root", ask_hidden=ask).code == 0
    assert asked == ["password: ", "password again: "]
    assert User.objects.get().check_password(PASSWORD)


@pytest.mark.parametrize("stdin", ["", "short\n"])
def test_a_bad_password_changes_nothing(station: Station, stdin: str) -> None:
    services.create_user(factories.OPERATOR, username="root", password=PASSWORD)
    assert station("user", "password", "root", "--password-stdin", stdin=stdin).code == 2
    assert User.objects.get().check_password(PASSWORD)


def test_a_password_for_nobody_is_refused_before_it_is_typed(station: Station) -> None:
    def ask(_: str) -> str:
        raise AssertionError("asked")

    assert station("user", "password", "nobody", ask_hidden=ask).code == 3


def test_a_key_is_printed_once_and_opens_what_it_says(station: Station, parsed: Parsed) -> None:
    where = factories.environment("prod")
    services.create_user(factories.OPERATOR, username="ann", platform_admin=True)
    made = station("key", "create", "ci", "--user", "ann", "--env", "prod", "--role", "viewer",
                   "--expires", "30d")  # fmt: skip
    assert made.code == 0
    principal = principals.for_api_key(made.out.strip())
    assert principal.roles == {where.pk: Role.VIEWER}
    (shown,) = parsed("key", "list")
    assert (shown["name"], shown["environments"], shown["role"]) == ("ci", ["prod"], "viewer")
    assert made.out.strip() not in station("key", "list").out
    assert station("key", "revoke", shown["key_id"]).code == 0
    assert ApiKey.objects.get().revoked_at is not None


def test_a_key_as_json_holds_the_key(parsed: Parsed) -> None:
    services.create_user(factories.OPERATOR, username="ann")
    made = parsed("key", "create", "ci", "--user", "ann")
    assert made["key"].startswith(f"stn_{made['key_id']}_")


def test_the_host_operator_has_to_say_whose_key_it_is(station: Station) -> None:
    assert station("key", "create", "ci").code == 2


def test_an_ssh_key_is_added_listed_and_revoked(station: Station, parsed: Parsed) -> None:
    services.create_user(factories.OPERATOR, username="ann")
    assert station("key", "ssh-add", "-", "--user", "ann", stdin=SSH_KEY).code == 0
    (shown,) = parsed("key", "ssh-list")
    assert (shown["name"], shown["user"]) == ("me@laptop", "ann")
    assert station("key", "ssh-add", "-", "--user", "ann", stdin=SSH_KEY).code == 5
    assert station("key", "ssh-revoke", shown["fingerprint"]).code == 0
    assert parsed("key", "ssh-list")[0]["revoked_at"] is not None


def test_a_variable_is_set_shown_and_deleted(station: Station, parsed: Parsed) -> None:
    factories.environment("prod")
    assert station("variable", "set", "REGION", "eu", "--env", "prod").code == 0
    (shown,) = parsed("variable", "list", "--env", "prod")
    assert (shown["name"], shown["value"], shown["secret"]) == ("REGION", "eu", False)
    assert station("variable", "delete", "REGION", "--env", "prod").code == 0
    assert station("variable", "delete", "REGION", "--env", "prod").code == 3


def test_a_secret_comes_from_stdin_and_is_never_shown(station: Station, parsed: Parsed) -> None:
    factories.environment("prod")
    done = station("variable", "set", "TOKEN", "--env", "prod", "--secret", "--stdin",
                   stdin="s3cr3t\n")  # fmt: skip
    assert done.code == 0
    assert Variable.objects.get().reveal() == "s3cr3t"
    assert parsed("variable", "list")[0]["value"] is None
    assert "s3cr3t" not in station("variable", "list").out + done.out + done.err


def test_a_secret_on_the_command_line_is_refused(station: Station) -> None:
    factories.environment("prod")
    done = station("variable", "set", "TOKEN", "s3cr3t", "--env", "prod", "--secret")
    assert done.code == 2
    assert "s3cr3t" not in done.err
    assert not Variable.objects.exists()


def test_errors_as_json_hold_the_code_of_the_rest_api(station: Station) -> None:
    done = station("env", "show", "nowhere", "--json")
    assert done.code == 3
    assert json.loads(done.err)["error"]["code"] == "environment_not_found"
