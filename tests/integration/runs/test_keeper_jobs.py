"""What the keeper does at every tick: it frees, ends, rings and forgets."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.db import connection
from django.utils import timezone

from runs import bus, jobs, journal
from runs.models import Run, Submission, Worker
from station import config
from station.core import jobs as keepers
from tests import factories
from tests.integration.runs.crowding import crowd, fallen_silent
from tests.integration.runs.locking import locked, locked_runs, never_waiting

pytestmark = pytest.mark.django_db(transaction=True)
MOST_ATTEMPTS = 2
"""Not the default, so that a number in the code would be noticed."""


@pytest.fixture(autouse=True)
def few_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = config.current()
    queue = whole.execution_queue.model_copy(update={"max_attempts": MOST_ATTEMPTS})
    assert queue.max_attempts != whole.execution_queue.max_attempts
    changed = whole.model_copy(update={"execution_queue": queue})
    monkeypatch.setattr(jobs, "current", lambda: changed)


@contextmanager
def heard(*run_ids: int) -> Iterator[dict[str, Any]]:
    """What the followers of these runs have heard when the block ends, by channel."""
    news: dict[str, Any] = {}
    url = config.current().redis.url.get_secret_value()
    with redis.Redis.from_url(url, decode_responses=True) as client:
        heard = client.pubsub(ignore_subscribe_messages=True)
        heard.subscribe(*map(bus.channel, run_ids))
        yield news
        client.publish(bus.channel(run_ids[0]), "null")
        while (message := heard.get_message(timeout=10)) is None or message["data"] != "null":
            if message is not None:
                news[message["channel"]] = json.loads(message["data"])
        heard.close()


def statuses(*run_ids: int) -> list[str]:
    found = dict(Run.objects.filter(pk__in=run_ids).values_list("pk", "status"))
    return [found[run_id] for run_id in run_ids]


def test_every_job_is_handed_to_the_keeper() -> None:
    given = {job.run for job in keepers.registered()}
    assert given >= {
        jobs.free_expired_leases,
        jobs.ring_for_unheard,
        jobs.expire_idle,
        jobs.forget_submissions,
        jobs.forget_workers,
    }


# --- leases that ran out -------------------------------------------------------------------------


def test_a_run_goes_back_to_the_queue_when_its_lease_has_run_out_and_not_before() -> None:
    agent = factories.agent()
    silent, alive = fallen_silent(agent), fallen_silent(agent, seconds=-60)
    jobs.free_expired_leases()
    assert statuses(silent, alive) == ["queued", "running"]
    row = Run.objects.get(pk=silent)
    assert (row.crashes, row.worker, row.lease_expires_at) == (1, "", None)
    assert journal.read(silent)[-1].payload == {"reason": "lease_expired"}


def test_a_run_fails_when_as_many_workers_died_as_the_configuration_admits() -> None:
    run_id = fallen_silent(factories.agent(), crashes=MOST_ATTEMPTS - 1)
    jobs.free_expired_leases()
    row = Run.objects.get(pk=run_id)
    assert (row.status, row.error_code, row.crashes) == ("failed", "worker_crashed", MOST_ATTEMPTS)
    assert row.error_message.startswith("2 workers in a row died")
    last = journal.read(run_id)[-1].payload
    assert (last["status"], last["error"]["message"]) == ("failed", row.error_message)


def test_a_run_that_was_to_be_cancelled_is_cancelled_however_often_its_workers_died() -> None:
    agent = factories.agent()
    asked: dict[str, Any] = {"cancel_requested_at": timezone.now()}
    fresh = fallen_silent(agent, **asked)
    worn = fallen_silent(agent, crashes=MOST_ATTEMPTS - 1, **asked)
    jobs.free_expired_leases()
    assert statuses(fresh, worn) == ["cancelled", "cancelled"]


def test_followers_hear_what_became_of_each_run_and_each_released_one_is_rung_for_once(
    rung: list[None],
) -> None:
    agent = factories.agent()
    back = [fallen_silent(agent) for _ in range(2)]
    failed = fallen_silent(agent, crashes=MOST_ATTEMPTS - 1)
    cancelled = fallen_silent(agent, cancel_requested_at=timezone.now())
    alive = fallen_silent(agent, seconds=-60)
    with heard(*back, failed, cancelled, alive) as news:
        jobs.free_expired_leases()
    told = {channel: event["kind"] for channel, event in news.items()}
    assert told == {
        **dict.fromkeys(map(bus.channel, back), "run.released"),
        bus.channel(failed): "run.finished",
        bus.channel(cancelled): "run.finished",
    }
    assert len(rung) == len(back)
    rung.clear()
    jobs.free_expired_leases()
    assert rung == []


def test_of_more_than_a_hundred_silent_runs_the_longest_silent_are_freed_first() -> None:
    agent = factories.agent()
    crowd_ids = [fallen_silent(agent, seconds=60 + number) for number in range(130)]
    newest_first, oldest = crowd_ids[:30], crowd_ids[30:]
    jobs.free_expired_leases()
    assert set(statuses(*oldest)) == {"queued"}
    assert set(statuses(*newest_first)) == {"running"}
    jobs.free_expired_leases()
    assert set(statuses(*newest_first)) == {"queued"}


def test_a_silent_run_that_somebody_has_locked_does_not_hold_up_the_others() -> None:
    agent = factories.agent()
    kinds: list[dict[str, Any]] = [
        {},
        {"crashes": MOST_ATTEMPTS - 1},
        {"cancel_requested_at": timezone.now()},
    ]
    stuck = [fallen_silent(agent, seconds=600, **kind) for kind in kinds]
    free = [fallen_silent(agent, **kind) for kind in kinds]
    with locked_runs(*stuck), never_waiting():
        jobs.free_expired_leases()
        assert statuses(*free) == ["queued", "failed", "cancelled"]
        assert statuses(*stuck) == ["running"] * 3
    jobs.free_expired_leases()
    assert statuses(*stuck) == ["queued", "failed", "cancelled"]


# --- what waited too long ------------------------------------------------------------------------


def test_runs_end_that_are_past_their_queue_deadline_or_the_end_of_their_wait_and_no_others() -> (
    None
):
    agent, now = factories.agent(), timezone.now()
    past, ahead = now - timedelta(seconds=1), now + timedelta(seconds=60)
    (late,) = crowd(agent, 1, queue_deadline=past)
    (forgotten,) = crowd(agent, 1, status="waiting", wait_expires_at=past)
    others = [
        *crowd(agent, 1),
        *crowd(agent, 1, queue_deadline=ahead),
        *crowd(agent, 1, queue_deadline=past, started_at=past),
        *crowd(agent, 1, status="waiting", wait_expires_at=ahead, queue_deadline=past),
        fallen_silent(agent, queue_deadline=past, wait_expires_at=past),
    ]
    before = statuses(*others)
    with heard(late, forgotten, *others) as news:
        jobs.expire_idle()
    assert statuses(late, forgotten) == ["timed_out", "timed_out"]
    assert statuses(*others) == before
    codes = {channel: event["payload"]["error"]["code"] for channel, event in news.items()}
    assert codes == {
        bus.channel(late): "queue_deadline",
        bus.channel(forgotten): "wait_expired",
    }


def test_an_overdue_run_that_somebody_has_locked_does_not_hold_up_the_others() -> None:
    agent, past = factories.agent(), timezone.now() - timedelta(seconds=1)
    queued = crowd(agent, 2, queue_deadline=past)
    waiting = crowd(agent, 2, status="waiting", wait_expires_at=past)
    with locked_runs(queued[0], waiting[0]), never_waiting():
        jobs.expire_idle()
        assert statuses(*queued) == ["queued", "timed_out"]
        assert statuses(*waiting) == ["waiting", "timed_out"]
    jobs.expire_idle()
    assert statuses(queued[0], waiting[0]) == ["timed_out", "timed_out"]


# --- runs that nobody came for -------------------------------------------------------------------


def test_unheard_runs_are_rung_for_once_per_free_slot_and_fresh_ones_are_not(
    rung: list[None],
) -> None:
    agent, now = factories.agent(), timezone.now()
    Worker.objects.create(name="w", host="h", pid=1, slots=3, busy=1)
    crowd(agent, 5)
    jobs.ring_for_unheard()
    assert rung == [], "they became due just now"
    crowd(agent, 1, available_at=now - timedelta(seconds=3))
    jobs.ring_for_unheard()
    assert len(rung) == 1
    rung.clear()
    crowd(agent, 5, available_at=now - timedelta(seconds=3))
    jobs.ring_for_unheard()
    assert len(rung) == 2


def test_a_keeper_does_not_ring_while_another_one_does(rung: list[None]) -> None:
    Worker.objects.create(name="w", host="h", pid=1, slots=3)
    crowd(factories.agent(), 1, available_at=timezone.now() - timedelta(seconds=3))
    with locked("SELECT pg_advisory_xact_lock(hashtext('station ring for unheard'))"):
        jobs.ring_for_unheard()
    assert rung == []
    jobs.ring_for_unheard()
    assert len(rung) == 1


# --- what is forgotten ---------------------------------------------------------------------------


def test_an_idempotency_key_is_forgotten_after_a_day_and_no_sooner() -> None:
    where, now = factories.environment(), timezone.now()
    for key, hours, minutes in (("young", 23, 59), ("old", 24, 1)):
        Submission.objects.create(
            environment=where,
            principal="p",
            key=key,
            created_at=now - timedelta(hours=hours, minutes=minutes),
        )
    jobs.forget_submissions()
    assert [each.key for each in Submission.objects.all()] == ["young"]


def test_a_worker_is_forgotten_when_it_was_silent_for_long() -> None:
    for minutes in (9, 11):
        Worker.objects.create(name=f"{minutes}", host="h", pid=1, slots=1)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE run_workers SET seen_at = clock_timestamp() - make_interval(mins => name::int)"
        )
    jobs.forget_workers()
    assert [worker.name for worker in Worker.objects.all()] == ["9"]
