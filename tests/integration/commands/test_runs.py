"""agent run, agent logs, run and queue."""

import io
import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from runs.models import Run, Worker
from runs.states import Status
from station.accounts import principals, services
from station.commands import invoke
from station.commands.session import Session
from station.core.principal import Role, system
from tests import factories
from tests.integration.runs.working import Played
from tests.unit.commands.seats import Outcome

pytestmark = pytest.mark.django_db(transaction=True)
Station = Callable[..., Outcome]
Parsed = Callable[..., Any]


def test_agent_run_queues_a_run_with_what_it_was_told(parsed: Parsed) -> None:
    factories.agent(name="helper")
    shown = parsed("agent", "run", "helper", "Do it.", "--data", '{"a": 1}', "--priority", "5",
                   "--timeout", "5m", "--queue-timeout", "1h")  # fmt: skip
    run = Run.objects.get()
    assert (run.input, run.data, run.priority, run.timeout) == ("Do it.", {"a": 1}, 5, 300)
    assert run.queue_deadline is not None
    assert (shown["id"], shown["status"], shown["submitted_by"]) == (run.pk, "queued", "cli:tester")
    assert "worker" in shown["why_queued"]


def test_agent_run_says_when_nobody_will_take_it(station: Station) -> None:
    factories.agent(name="helper")
    done = station("agent", "run", "helper", "Do it.")
    run = Run.objects.get()
    assert done.out == f"Run {run.pk} of agent helper is queued.\n"
    assert "No worker is running" in done.err


def test_a_task_may_come_from_stdin(station: Station) -> None:
    factories.agent(name="helper")
    assert station("agent", "run", "helper", "-", stdin="Do\nit.\n").code == 0
    assert Run.objects.get().input == "Do\nit."


def test_the_same_key_is_the_same_run(parsed: Parsed, station: Station) -> None:
    factories.agent(name="helper")
    words = ("agent", "run", "helper", "Do it.", "--idempotency-key", "k")
    assert parsed(*words)["id"] == parsed(*words)["id"]
    words = ("agent", "run", "helper", "Something else.", "--idempotency-key", "k")
    assert station(*words).code == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("nobody", "Do it."), 3),
        (("helper", " "), 2),
        (("helper", "Do it.", "--data", "[1]"), 2),
        (("helper", "Do it.", "--data", "{"), 2),
        (("helper", "Do it.", "--priority", "101"), 2),
        (("helper", "Do it.", "--timeout", "5"), 2),
        (("helper", "Do it.", "--data", "@/etc/passwd"), 2),
        (("helper",), 2),
        (("helper", "Do it.", "--env", "nowhere"), 3),
    ],
)
def test_a_bad_request_stores_nothing(station: Station, words: tuple[str, ...], code: int) -> None:
    factories.agent(name="helper")
    done = station("agent", "run", *words)
    assert (done.code, done.out) == (code, "")
    assert done.err
    assert not Run.objects.exists()


def test_a_remote_session_reads_no_file_of_the_host(station: Station) -> None:
    factories.agent(name="helper")
    words = ("agent", "run", "helper", "Do it.", "--data", "@/etc/hostname")
    done = station(*words, host=False)
    assert done.code == 2
    assert "host's own shell" in done.err


def test_a_disabled_agent_is_a_conflict(station: Station) -> None:
    factories.agent(name="helper")
    station("agent", "disable", "helper")
    assert station("agent", "run", "helper", "Do it.").code == 5


def test_a_name_in_two_environments_has_to_be_chosen(station: Station) -> None:
    one, two = factories.environment("one"), factories.environment("two")
    factories.agent(one, "helper")
    mine = factories.agent(two, "helper")
    assert station("agent", "run", "helper", "Do it.").code == 5
    assert station("agent", "run", "helper", "Do it.", "--env", "two").code == 0
    assert Run.objects.get().agent == mine


def test_runs_are_listed_newest_first_and_filtered(parsed: Parsed) -> None:
    one, two = factories.environment("one"), factories.environment("two")
    helper, other = factories.agent(one, "helper"), factories.agent(two, "other")
    first, second, third = factories.run(helper), factories.run(other), factories.run(helper)
    Played().finish(Status.FAILED, error="It broke.")
    Run.objects.filter(pk=second.pk).update(created_at=second.created_at - timedelta(hours=3))

    def ids(*words: str) -> list[int]:
        return [run["id"] for run in parsed("run", "list", *words)]

    assert ids() == [third.pk, second.pk, first.pk]
    assert ids("--env", "two") == [second.pk]
    assert ids("--agent", "helper") == [third.pk, first.pk]
    assert ids("--status", "failed") == [first.pk]
    assert ids("--status", "failed", "--status", "queued") == [third.pk, second.pk, first.pk]
    assert ids("--since", "1h") == [third.pk, first.pk]
    assert ids("--until", "1h") == [second.pk]
    assert ids("--limit", "1") == [third.pk]
    assert ids("--before-id", str(second.pk)) == [first.pk]


def test_listing_costs_the_same_however_many_runs(
    parsed: Parsed, django_assert_num_queries: Any
) -> None:
    agent = factories.agent()
    for _ in range(5):
        factories.run(agent)
    with django_assert_num_queries(1):
        assert len(parsed("run", "list")) == 5


def test_the_list_is_readable_and_a_task_cannot_steer_the_terminal(station: Station) -> None:
    run = factories.run(factories.agent(name="helper"), "Do\x1b[2J\nit.")
    done = station("run", "list")
    head, row = done.out.splitlines()
    assert head.split() == ["ID", "STATUS", "ENVIRONMENT", "AGENT", "SUBMITTED", "TOOK", "STEPS",
                            "COST", "TASK"]  # fmt: skip
    assert row.split()[:2] == [str(run.pk), "queued"]
    assert row.endswith("Do[2J it.")


def test_a_run_is_shown_as_the_rest_api_shows_it(parsed: Parsed) -> None:
    factories.run(factories.agent())
    played = Played()
    played.answer("Done.")
    played.finish(output="Done.")
    services.create_user(factories.OPERATOR, username="root", platform_admin=True)
    _, key = services.create_api_key(factories.OPERATOR, name="k", username="root")
    answer = Client().get(
        f"/api/v1/runs/{played.run_id}", headers={"authorization": f"Bearer {key}"}
    )
    assert answer.status_code == 200
    expected = answer.json()
    del expected["links"]
    assert parsed("run", "show", str(played.run_id)) == expected


def test_a_run_is_shown_to_a_person(station: Station) -> None:
    run = factories.run(factories.agent(name="helper"))
    assert "No worker is running" in station("run", "show", str(run.pk)).out
    played = Played()
    played.answer("It is idle.")
    played.finish(output="It is idle.")
    out = station("run", "show", str(run.pk)).out
    assert "status       succeeded" in out
    assert out.endswith("\nanswer\n  It is idle.\n")


@pytest.mark.parametrize("run_id", ["0", "x", "99999999999999999999", "-1", "--", "1\x00"])
def test_a_run_that_is_none_is_not_found_or_wrong_usage(station: Station, run_id: str) -> None:
    assert station("run", "show", run_id).code in (2, 3)


def test_runs_are_cancelled_each_on_its_own(station: Station) -> None:
    agent = factories.agent()
    running, queued = factories.run(agent), factories.run(agent)
    played = Played()
    assert played.run_id == running.pk
    done = station("run", "cancel", str(queued.pk), "999999", str(running.pk))
    assert done.code == 3
    assert done.out == f"Run {queued.pk} is cancelled.\nRun {running.pk} is told to stop.\n"
    assert "999999" in done.err
    assert station("run", "cancel", str(queued.pk)).code == 5


def test_a_viewer_sees_runs_and_may_not_cancel_them(station: Station) -> None:
    where = factories.environment("prod")
    run = factories.run(factories.agent(where))
    elsewhere = factories.run(factories.agent())
    user = services.create_user(factories.OPERATOR, username="vera")
    services.set_role(
        factories.OPERATOR, username="vera", environment_id=where.pk, role=Role.VIEWER
    )
    viewer = principals.for_user(user)
    listed = station("run", "list", "--json", principal=viewer).out
    assert [each["id"] for each in json.loads(listed)] == [run.pk]
    assert station("run", "cancel", str(run.pk), principal=viewer).code == 4
    assert station("run", "show", str(elsewhere.pk), principal=viewer).code == 3
    assert station("run", "follow", str(elsewhere.pk), principal=viewer).code == 3
    assert Run.objects.filter(status="queued").count() == 2


def finished(status: Status) -> int:
    factories.run(factories.agent(name="helper"))
    played = Played()
    played.answer("It is idle.")
    error = "" if status is Status.SUCCEEDED else "It broke."
    played.finish(status, output="It is idle.", error=error)
    return played.run_id


@pytest.mark.parametrize(
    ("status", "code"),
    [(Status.SUCCEEDED, 0), (Status.FAILED, 1), (Status.TIMED_OUT, 1), (Status.CANCELLED, 1)],
)
def test_follow_tells_a_run_and_exits_by_how_it_ended(
    station: Station, status: Status, code: int
) -> None:
    run_id = finished(status)
    done = station("run", "follow", str(run_id))
    assert done.code == code
    lines = done.out.splitlines()
    assert lines[0].startswith(f"run {run_id}  helper (version 1) in env-")
    assert "  It is idle." in lines
    assert lines[-1].startswith(status.value.replace("_", " "))
    assert ("It broke." in done.out) is bool(code)


def test_follow_as_json_is_an_object_a_line(station: Station) -> None:
    run_id = finished(Status.SUCCEEDED)
    lines = [
        json.loads(line)
        for line in station("run", "follow", str(run_id), "--json").out.splitlines()
    ]
    assert [line.get("kind", "run") for line in lines] == [
        "run", "run.submitted", "run.claimed", "model.answered", "run.finished", "run",
    ]  # fmt: skip
    assert lines[-1]["run"]["output"] == "It is idle."
    assert lines[1].keys() == {"seq", "kind", "at", "payload"}


class Watched(io.StringIO):
    """A stdout whose text another thread can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def write(self, text: str) -> int:
        with self._changed:
            self._changed.notify_all()
            return super().write(text)

    def wait_for(self, text: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.getvalue(), timeout=15), (
                self.getvalue()
            )


def test_agent_run_with_follow_shows_text_while_it_is_spoken() -> None:
    factories.agent(name="helper")
    out, codes = Watched(), []
    session = Session(principal=system("cli:me"), stdout=out, stderr=io.StringIO())

    def follow() -> None:
        try:
            codes.append(invoke(["agent", "run", "helper", "Do it.", "--follow"], session))
        finally:
            connection.close()

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        out.wait_for("submitted by cli:me")
        played = Played()
        out.wait_for("started")
        played.say("It is ")
        out.wait_for("step 1\n  It is ")
        played.say("idle.")
        out.wait_for("It is idle.")
        played.answer("It is idle.")
        played.finish(output="It is idle.")
    finally:
        thread.join(timeout=15)
    assert codes == [0]
    assert out.getvalue().count("It is idle.") == 1


def test_a_listener_that_leaves_lets_the_run_go_on(station: Station) -> None:
    run = factories.run()
    Played()
    done = station("run", "follow", str(run.pk), cancelled=lambda: True)
    assert done.code == 130
    run.refresh_from_db()
    assert (run.status, run.cancel_requested_at) == ("running", None)


class Impatient(io.StringIO):
    """A stdout at which Ctrl-C is pressed once the run has started."""

    def write(self, text: str) -> int:
        if "started" in text:
            raise KeyboardInterrupt
        return super().write(text)


def test_ctrl_c_leaves_the_run_going_and_says_how_to_end_it() -> None:
    run = factories.run()
    Played()
    session = Session(principal=system("cli:me"), stdout=Impatient(), stderr=io.StringIO())
    assert invoke(["run", "follow", str(run.pk)], session) == 130
    assert isinstance(session.stderr, io.StringIO)
    assert f"`station run cancel {run.pk}`" in session.stderr.getvalue()
    run.refresh_from_db()
    assert run.status == "running"


def test_an_agents_log_is_its_runs_last_events(station: Station, parsed: Parsed) -> None:
    run_id = finished(Status.FAILED)
    factories.run()
    agent_id = Run.objects.get(pk=run_id).agent_id
    lines = station("agent", "logs", str(agent_id)).out.splitlines()
    assert [line.split()[1:4] for line in lines] == [
        ["run", str(run_id), kind]
        for kind in ("run.submitted", "run.claimed", "model.answered", "run.finished")
    ]
    assert lines[-1].endswith("failed: It broke.")
    last = [json.loads(line) for line in
            station("agent", "logs", "helper", "-n", "2", "--json").out.splitlines()]  # fmt: skip
    assert [(event["run"], event["seq"]) for event in last] == [(run_id, 3), (run_id, 4)]


def test_an_agents_log_goes_on_with_follow() -> None:
    agent = factories.agent(name="helper")
    out, left = Watched(), threading.Event()
    session = Session(
        principal=system("cli:me"), stdout=out, stderr=io.StringIO(), cancelled=left.is_set
    )

    def follow() -> None:
        try:
            invoke(["agent", "logs", "helper", "--follow"], session)
        finally:
            connection.close()

    thread = threading.Thread(target=follow)
    factories.run(agent)
    thread.start()
    try:
        out.wait_for("run.submitted")
        Played().finish()
        out.wait_for("run.finished")
        later = factories.run(agent)
        out.wait_for(f"run {later.pk}  run.submitted")
    finally:
        left.set()
        thread.join(timeout=15)
    kinds = [line.split()[3] for line in out.getvalue().splitlines()]
    assert kinds == ["run.submitted", "run.claimed", "run.finished", "run.submitted"]


def test_the_queue_is_told_by_environment_and_worker(station: Station, parsed: Parsed) -> None:
    where = factories.environment("prod")
    agent = factories.agent(where)
    factories.run(agent)
    factories.run(agent)
    Played()
    assert "No worker is running" in station("queue", "status").out
    Worker.objects.create(name="w1", host="h", pid=1, slots=8, busy=1)
    shown = parsed("queue", "status")
    (environment,) = shown["environments"]
    assert (environment["queued"], environment["running"]) == (1, 1)
    assert [(worker["name"], worker["slots"]) for worker in shown["workers"]] == [("w1", 8)]
    assert "1 worker, 7 slots free" in station("queue", "status").out
    assert "down" not in station("queue", "status").out


def test_the_queue_names_model_providers_that_are_down(station: Station, parsed: Parsed) -> None:
    down = factories.circuit("gemini", down=True)
    said = station("queue", "status").out
    for part in ("Runs wait for model providers that are down", "gemini", down.problem):
        assert part in said
    assert [each["provider"] for each in parsed("queue", "status")["circuits"]] == ["gemini"]
