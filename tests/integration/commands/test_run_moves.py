"""run decide, run retry, run cancel by filter, caps, and pausing queues."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from agents.models import Agent
from runs import journal, queue, transitions
from runs.entries import Kind
from runs.models import Run
from station.accounts import principals, services
from station.accounts.models import Environment
from station.core.principal import Principal, Role
from tests import factories
from tests.integration.runs.doubting import doubt
from tests.integration.runs.working import Played
from tests.unit.commands.seats import Outcome

pytestmark = pytest.mark.django_db(transaction=True)
Station = Callable[..., Outcome]
Parsed = Callable[..., Any]


@pytest.fixture
def waiting() -> Run:
    factories.run(factories.agent(name="helper"))
    return doubt()


def decided(run: Run) -> dict[str, tuple[str, str]]:
    payloads = [e.payload for e in journal.read(run.pk) if e.kind is Kind.DECIDED]
    return {p["call_id"]: (p["decision"], p["result"]) for p in payloads}


def member(where: Environment, role: Role) -> Principal:
    user = services.create_user(factories.OPERATOR, username=f"{role.label}-{where.name}")
    services.set_role(
        factories.OPERATOR, username=user.username, environment_id=where.pk, role=role
    )
    return principals.for_user(user)


def test_a_run_in_doubt_is_shown_with_its_calls_and_how_to_decide(
    station: Station, parsed: Parsed, waiting: Run
) -> None:
    out = station("run", "show", str(waiting.pk)).out
    assert '  c1  s__write {"n": 0}\n  c2  s__write {"n": 1}\n' in out
    assert f"`station run decide {waiting.pk} c1 happened|repeat|stop`" in out
    shown = parsed("run", "show", str(waiting.pk))
    assert [call["call_id"] for call in shown["open_calls"]] == ["c1", "c2"]


def test_a_run_shows_how_often_it_was_put_off(station: Station, parsed: Parsed) -> None:
    run = factories.run(factories.agent(name="helper"))
    assert "retries" not in station("run", "show", str(run.pk)).out
    moved = queue.claim("worker", 60.0)
    assert moved is not None
    error = ("model_unavailable", "Nobody answers.")
    transitions.retry_later(run.pk, moved.fence, error=error, retry=1, at_most=3, delay=600)
    out = station("run", "show", str(run.pk)).out
    assert re.search(r"^retries +1$", out, re.MULTILINE)
    assert "It is held back until" in out
    assert parsed("run", "show", str(run.pk))["retries"] == 1
    logs = station("agent", "logs", "helper").out
    assert "after model_unavailable, retry 1 of 3 in 10 m 00 s" in logs


def test_each_call_is_decided_with_its_own_result(
    station: Station, parsed: Parsed, waiting: Run
) -> None:
    done = station(
        "run", "decide", str(waiting.pk), "c1", "happened", "--result", "-", "--call",
        "c2=happened", "--result-of", "c2=order 8", "--why", "I looked.", stdin="order 7",
    )  # fmt: skip
    assert (done.code, done.out) == (0, f"Run {waiting.pk} goes on.\n")
    assert decided(waiting) == {"c1": ("happened", "order 7"), "c2": ("happened", "order 8")}
    assert parsed("run", "show", str(waiting.pk))["status"] == "queued"
    assert station("run", "decide", str(waiting.pk), "--all", "repeat").code == 5


def test_all_is_the_verdict_on_the_calls_that_are_not_named(parsed: Parsed, waiting: Run) -> None:
    words = ("c1", "happened", "--result", "order 7", "--all", "repeat")
    assert parsed("run", "decide", str(waiting.pk), *words)["status"] == "queued"
    assert decided(waiting) == {"c1": ("happened", "order 7"), "c2": ("repeat", "")}


def test_all_happened_gives_every_call_the_result(parsed: Parsed, waiting: Run) -> None:
    parsed("run", "decide", str(waiting.pk), "--all", "happened", "--result", "done")
    assert decided(waiting) == {"c1": ("happened", "done"), "c2": ("happened", "done")}


def test_stop_ends_the_run(station: Station, waiting: Run) -> None:
    done = station("run", "decide", str(waiting.pk), "--all", "stop")
    assert (done.code, done.out) == (0, f"Run {waiting.pk} is stopped.\n")
    waiting.refresh_from_db()
    assert waiting.error_code == "stopped_in_doubt"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("c1",),
        ("c1", "maybe"),
        ("c1", "repeat"),
        ("zz", "repeat", "--all", "repeat"),
        ("c1", "repeat", "--call", "c1=stop", "--all", "repeat"),
        ("--call", "c1=maybe", "--all", "repeat"),
        ("--all", "repeat", "--result", "x"),
        ("--all", "repeat", "--result-of", "zz=x"),
        ("c1", "happened", "--result", "@/etc/no-such-file", "--all", "repeat"),
        ("--call", "c1=happened", "--call", "c2=repeat", "--result", "x"),
        ("--call", "c1=happened", "--call", "c2=happened", "--result", "x", "--all", "happened"),
        ("c1", "happened", "--result", "x", "--all", "happened"),
        ("c1", "happened", "--result", "x", "--result-of", "c1=y", "--all", "repeat"),
        ("--all", "happened", "--result", "x", "--result-of", "c1=y"),
        ("c1", "repeat", "--result", "x", "--all", "stop"),
        ("--all", "happened", "--result-of", "c1=x", "--result-of", "c1=y"),
        ("--all", "repeat", "--result-of", "c1=x"),
        ("--all", "happened", "--result-of", "c1=-", "--result-of", "c2=-"),
        ("c1", "happened", "--result", "-", "--call", "c2=happened", "--result-of", "c2=-"),
    ],
)
def test_an_unclear_decision_is_wrong_usage_and_changes_nothing(
    station: Station, waiting: Run, words: tuple[str, ...]
) -> None:
    done = station("run", "decide", str(waiting.pk), *words, stdin="read once")
    assert (done.code, done.out) == (2, "")
    waiting.refresh_from_db()
    assert waiting.status == "waiting"


def test_a_viewer_decides_and_retries_nothing(station: Station, waiting: Run) -> None:
    viewer = member(waiting.environment, Role.VIEWER)
    done = station("run", "decide", str(waiting.pk), "--all", "repeat", principal=viewer)
    assert done.code == 4
    assert station("run", "retry", str(waiting.pk), principal=viewer).code == 4


def test_a_run_is_retried_once_it_has_ended(station: Station, parsed: Parsed) -> None:
    run = factories.run(task="Look.")
    assert station("run", "retry", str(run.pk)).code == 5
    Played().finish()
    again = parsed("run", "retry", str(run.pk))
    assert (again["retry_of"], again["input"], again["status"]) == (run.pk, "Look.", "queued")
    assert "retry of" in station("run", "show", str(again["id"])).out


def test_filters_count_first_and_cancel_with_yes(station: Station, parsed: Parsed) -> None:
    one, two = factories.environment("one"), factories.environment("two")
    agent = factories.agent(one)
    running, queued, ended = (factories.run(agent) for _ in range(3))
    station("run", "cancel", str(ended.pk))
    kept = factories.run(factories.agent(two))
    assert Played().run_id == running.pk
    counted = station("run", "cancel", "--env", "one")
    assert (counted.code, "needed to cancel 2 runs" in counted.err) == (2, True)
    assert not Run.objects.exclude(pk=ended.pk).exclude(cancel_requested_at=None).exists()
    assert parsed("run", "cancel", "--env", "one", "--since", "1h", "--yes") == {"cancelled": 2}
    for run in (running, queued, kept):
        run.refresh_from_db()
    assert (running.status, queued.status, kept.status) == ("running", "cancelled", "queued")
    assert running.cancel_requested_at is not None
    done = station("run", "cancel", "--env", "one", "--yes")
    assert (done.code, done.out) == (0, "0 runs cancelled or told to stop.\n")


@pytest.mark.parametrize("words", [(), ("--yes",), ("1", "--status", "queued", "--yes")])
def test_cancel_wants_runs_or_filters(station: Station, words: tuple[str, ...]) -> None:
    run = factories.run()
    assert station("run", "cancel", *words).code == 2
    run.refresh_from_db()
    assert run.status == "queued"


def test_caps_are_set_shown_and_lifted(station: Station, parsed: Parsed) -> None:
    where = factories.environment("prod")
    factories.agent(where, "helper")
    assert parsed("env", "set", "prod", "--max-running", "5")["max_running"] == 5
    assert "5" in station("queue", "status").out.splitlines()[1].split()
    words = ("--max-running", "3", "--concurrency-key", "customer.id", "--max-per-key", "2")
    shown = parsed("agent", "set", "helper", *words)
    assert (shown["max_running"], shown["concurrency_key"]) == (3, "customer.id")
    assert "2 of one customer.id" in station("agent", "show", "helper").out
    station("agent", "set", "helper", "--max-running", "none")
    station("env", "set", "prod", "--description", "It is live.")
    agent = Agent.objects.get()
    assert (agent.max_running, agent.concurrency_key) == (None, "customer.id")
    station("agent", "set", "helper", "--concurrency-key", "none")
    assert Agent.objects.get().concurrency_key == ""
    where.refresh_from_db()
    assert (where.max_running, where.description) == (5, "It is live.")
    assert station("env", "set", "prod", "--max-running", "none").code == 0
    where.refresh_from_db()
    assert where.max_running is None


@pytest.mark.parametrize(
    "words",
    [
        ("env", "set", "prod"),
        ("env", "set", "prod", "--max-running", "0"),
        ("env", "set", "prod", "--max-running", "many"),
        ("agent", "set", "helper"),
        ("agent", "set", "helper", "--max-per-key", "0"),
        ("agent", "set", "helper", "--concurrency-key", "a b"),
    ],
)
def test_a_cap_that_cannot_be_is_wrong_usage(station: Station, words: tuple[str, ...]) -> None:
    factories.agent(factories.environment("prod"), "helper")
    assert station(*words).code == 2


def test_caps_are_part_of_an_agents_document(station: Station) -> None:
    factories.environment("prod")
    text = "name: helper\nenvironment: prod\nprompt: You help.\n"
    caps = "max_running: 4\nconcurrency_key: customer\nmax_running_per_key: 2\n"
    station("agent", "apply", "-f", "-", stdin=text + caps)
    exported = station("agent", "export", "helper").out
    assert caps in exported
    assert station("agent", "apply", "-f", "-", stdin=exported).out.endswith("unchanged.\n")
    assert station("agent", "apply", "-f", "-", stdin=text).out.endswith("unchanged.\n")
    lifted = station("agent", "apply", "-f", "-", stdin=text + "max_running: null\n")
    assert lifted.out.endswith("changed.\n")
    assert Agent.objects.get().max_running is None
    assert Agent.objects.get().concurrency_key == "customer"
    bad = station("agent", "apply", "-f", "-", stdin=text + "max_running: 0\n")
    assert (bad.code, "max_running" in bad.err) == (2, True)


def test_queues_are_paused_one_by_one_or_all_by_a_platform_admin(
    station: Station, parsed: Parsed
) -> None:
    one, two = factories.environment("one"), factories.environment("two")
    state = parsed("queue", "pause", "--env", "one")
    assert (state["name"], state["paused"]) == ("one", True)
    assert state == parsed("env", "pause", "one")
    assert not Environment.objects.get(pk=two.pk).paused
    admin = member(one, Role.ADMIN)
    assert station("queue", "resume", principal=admin).code == 4
    assert station("queue", "resume", "--env", "one", principal=admin).code == 0
    assert station("queue", "resume", "--env", "two", principal=admin).code == 3
    station("env", "pause", "two")
    assert parsed("queue", "pause") == parsed("queue", "pause")
    assert Environment.objects.filter(paused=True).count() == 2
    shown = parsed("env", "show", "one")
    assert (shown["paused"], shown["starts_runs"]) == (False, False)
    assert "but the whole queue is" in station("env", "resume", "one").out
    assert re.search(r"one +queue paused ", station("env", "list").out)
    assert "The whole queue is paused: cli:tester did that" in station("queue", "status").out
    assert parsed("queue", "resume") == {"paused": False, "by": "", "since": None}
    assert [row["starts_runs"] for row in parsed("env", "list")] == [True, False]


def test_the_queue_shows_how_full_agents_with_caps_are(station: Station, parsed: Parsed) -> None:
    one, two = factories.environment("one"), factories.environment("two")
    factories.agent(one, "free")
    for where, name in ((one, "capped"), (two, "keyed")):
        factories.agent(where, name)
    station("agent", "set", "capped", "--max-running", "1")
    station("agent", "set", "keyed", "--concurrency-key", "customer", "--max-per-key", "1")
    for customer in ("a", "a", "b"):
        station("agent", "run", "keyed", "Go.", "--data", json.dumps({"customer": customer}))
    for _ in range(3):
        station("agent", "run", "capped", "Go.")
    while queue.claim("worker", 60.0) is not None:
        pass
    capped, keyed = parsed("queue", "status")["agents"]
    assert (capped["agent"], capped["queued"], capped["running"]) == ("capped", 2, 1)
    assert (capped["max_running"], capped["max_running_per_key"]) == (1, None)
    assert (keyed["queued"], keyed["running"], keyed["max_running"]) == (1, 2, None)
    assert (keyed["keys_full"], keyed["keys_running"], keyed["max_running_per_key"]) == (2, 2, 1)
    lines = station("queue", "status", "--env", "two").out.splitlines()
    assert not any("one" in line.split()[:2] for line in lines)
    assert any(line.startswith("keyed  two") and "2 of 2" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("c1", "repeat"), "CALL_ID: call 'c2' is undecided"),
        (("zz", "repeat", "--all", "repeat"), "CALL_ID: 'zz' is not one"),
        (("--call", "zz=repeat", "--all", "repeat"), "--call: 'zz' is not one"),
        (
            ("c1", "repeat", "--call", "c1=stop", "--all", "repeat"),
            "CALL_ID: 'c1' is decided twice",
        ),
        (("--all", "repeat", "--result-of", "c1=x"), "--result-of: 'c1' did not happen"),
        (("--all", "repeat", "--result", "x"), "--result: is the result of no call"),
        (("c1", "happened", "--all", "happened", "--result", "x"), "--result: could be that of"),
        (("--all", "repeat", "--why", "w" * 2001), "--why: is longer than 2000"),
        (("--all", "happened", "--result", "x" * (1 << 19)), "--result: is longer than"),
    ],
)
def test_what_is_wrong_with_a_decision_is_told_in_the_commands_words(
    station: Station, waiting: Run, words: tuple[str, ...], said: str
) -> None:
    done = station("run", "decide", str(waiting.pk), *words)
    assert f"Error: {said}" in done.err
    assert "decisions" not in done.err


def test_a_result_goes_to_the_one_that_happened(parsed: Parsed, waiting: Run) -> None:
    words = ("c1", "repeat", "--all", "happened", "--result", "order 8")
    parsed("run", "decide", str(waiting.pk), *words)
    assert decided(waiting) == {"c1": ("repeat", ""), "c2": ("happened", "order 8")}


def test_each_of_all_calls_may_have_its_own_result(parsed: Parsed, waiting: Run) -> None:
    words = ("--all", "happened", "--result-of", "c1=order 7", "--result-of", "c2=-")
    parsed("run", "decide", str(waiting.pk), *words, stdin="order 8")
    assert decided(waiting) == {"c1": ("happened", "order 7"), "c2": ("happened", "order 8")}
