"""Values that the database cannot hold: wrong usage that names the field, and nothing stored."""

from collections.abc import Callable

import pytest
from django.db import connection

from agents.models import Agent, AgentVersion
from runs.models import Run, Submission
from station.accounts.models import ApiKey, Environment, SshKey, User, Variable
from tests import factories
from tests.unit.commands.seats import Outcome

pytestmark = pytest.mark.django_db(transaction=True)
Station = Callable[..., Outcome]
STORED = (Agent, AgentVersion, Run, Submission, ApiKey, Environment, SshKey, User, Variable)
RUN = ("agent", "run", "helper", "Go.")
CREATE = ("agent", "create", "new", "--env", "prod", "--prompt")
LONE = "\udcff"  # what a byte that is no UTF-8 becomes in an argument


@pytest.fixture(autouse=True)
def helper() -> Agent:
    return factories.agent(factories.environment("prod"), "helper")


def counts() -> list[int]:
    with connection.cursor() as cursor:
        found = []
        for model in STORED:
            cursor.execute(f"SELECT count(*) FROM {model._meta.db_table}")  # noqa: S608
            found.append(cursor.fetchone()[0])
    return found


def refuses(done: Outcome, field: str) -> None:
    assert done.code == 2, done
    assert f"Error: {field}:" in done.err, done
    assert done.out == ""


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ((*RUN, "--data", '{"n": NaN}'), "--data"),
        ((*RUN, "--data", '{"n": 1e999}'), "--data"),
        ((*RUN, "--data", '{"a":' * 120 + "1" + "}" * 120), "--data"),
        ((*RUN, "--idempotency-key", LONE), "--idempotency-key"),
        ((*RUN, "--idempotency-key", "a\0"), "--idempotency-key"),
        ((*RUN, "--idempotency-key", ""), "--idempotency-key"),
        ((*RUN, "--priority", str(10**30)), "--priority"),
        ((*CREATE, "a\0b"), "--prompt"),
        ((*CREATE, LONE), "--prompt"),
        ((*CREATE, "x", "--model", LONE), "--model"),
        ((*CREATE, "x", "--fallback-model", LONE), "--fallback-model"),
        ((*CREATE, "x", "--tool", "s/\0"), "--tool"),
        ((*CREATE, "x", "--description", LONE), "--description"),
        ((*CREATE, "x", "--parameters", '{"temperature": Infinity}'), "--parameters"),
        ((*CREATE, "x", "--parameters", '{"stop": "\\u0000"}'), "--parameters"),
        ((*CREATE, "x", "--output-schema", '{"title": "\\ud800"}'), "--output-schema"),
        (("agent", "set", "helper", "--description", "a\0"), "--description"),
        (("agent", "set", "helper", "--max-per-key", "0"), "--max-per-key"),
        (("env", "create", "new", "--description", "a\0"), "--description"),
        (("env", "create", f"a{LONE}"), "name"),
        (("env", "set", "prod", "--description", LONE), "--description"),
        (("env", "set", "prod", "--max-running", str(10**12)), "--max-running"),
        (("variable", "set", "A", LONE, "--env", "prod"), "value"),
        (("variable", "set", f"A{LONE}", "x", "--env", "prod"), "name"),
        (("user", "create", "new", "--email", LONE), "--email"),
        (("user", "create", f"a{LONE}"), "username"),
        (("key", "create", "k", "--user", f"a{LONE}"), "input"),
        (("agent", "show", LONE), "input"),
        (("agent", "show", "a\0"), "input"),
        (("run", "list", "--env", LONE), "input"),
    ],
    ids=lambda given: str(given)[:70],
)
def test_what_cannot_be_stored_is_wrong_usage_that_names_the_field(
    station: Station, words: tuple[str, ...], field: str
) -> None:
    before = counts()
    refuses(station(*words), field)
    assert counts() == before


@pytest.mark.parametrize("text", ["a\0b", "a\udcffb"])
def test_texts_from_standard_input_are_looked_at_too(station: Station, text: str) -> None:
    factories.environment("own")
    password = ("user", "create", "new", "--password-stdin")
    refuses(station(*password, stdin=text * 6), "password")
    secret = ("variable", "set", "A", "--secret", "--stdin", "--env", "own")
    refuses(station(*secret, stdin=text), "value")
    station("user", "create", "owner")
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDUNXWBlLZ6fmfiZUmgSNPLPNwZjAO0YDY+9g8Ov/aHD"
    add = ("key", "ssh-add", "-", "--user", "owner")
    refuses(station(*add, stdin=f"{key} {text}"), "--name")
    assert not SshKey.objects.exists()


def test_a_task_is_cleaned_and_kept(station: Station) -> None:
    assert station("agent", "run", "helper", "a\0b", "--data", '{"k": "\\u0000"}').code == 0
    run = Run.objects.get()
    assert (run.input, run.data) == ("a\ufffdb", {"k": "\ufffd"})
