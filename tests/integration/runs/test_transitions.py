"""Claim, append, finish and expiry against the real database."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import F

from runs import journal, moves, queue, services, transitions
from runs.entries import Entry, Kind, Spent
from runs.errors import LeaseLost, RunFinished
from runs.models import Run, RunEvent
from runs.moves import Moved, move
from runs.states import TERMINAL, TRANSITIONS, Status
from station.core.ids import uuid7
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
LEASE = 20.0
STEP = Entry(kind=Kind.MODEL_ANSWERED, payload={"step": 1})


def claimed(lease: float = LEASE) -> Moved:
    factories.run()
    moved = queue.claim("worker", lease)
    assert moved is not None
    return moved


def expire(run_id: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE agent_runs SET lease_expires_at = clock_timestamp() - interval '1 s' "
            "WHERE id = %s",
            [run_id],
        )


def past_its_queue_deadline(run_id: int) -> None:
    Run.objects.filter(pk=run_id).update(queue_deadline=F("queue_deadline") - timedelta(hours=1))


def in_parallel(work: Callable[[], object], times: int) -> list[object]:
    """The results of ``work`` done by that many threads at the same moment."""
    gate = threading.Barrier(times)

    def one() -> object:
        try:
            gate.wait(timeout=10)
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(times) as pool:
        return [future.result() for future in [pool.submit(one) for _ in range(times)]]


def test_a_claim_takes_the_oldest_run_of_the_highest_priority() -> None:
    agent = factories.agent()
    first, second = factories.run(agent), factories.run(agent)
    urgent = factories.run(agent, priority=5)
    order = [moved.run_id for _ in range(3) if (moved := queue.claim("w", LEASE))]
    assert order == [urgent.pk, first.pk, second.pk]
    assert queue.claim("w", LEASE) is None


def test_concurrent_claims_take_each_run_once() -> None:
    agent = factories.agent()
    runs = {factories.run(agent).pk for _ in range(30)}
    won: list[int] = []

    def drain() -> None:
        while (moved := queue.claim("w", LEASE)) is not None:
            won.append(moved.run_id)

    in_parallel(drain, 8)
    assert sorted(won) == sorted(runs)


def test_paused_agents_and_environments_start_nothing() -> None:
    agent = factories.agent()
    factories.run(agent)
    agent.paused = True
    agent.save()
    assert queue.claim("w", LEASE) is None
    agent.paused = False
    agent.save()
    type(agent.environment).objects.update(paused=True)
    assert queue.claim("w", LEASE) is None
    type(agent.environment).objects.update(paused=False)
    assert queue.claim("w", LEASE) is not None


def test_each_claim_raises_the_fence() -> None:
    moved = claimed()
    assert transitions.hand_back(moved.run_id, moved.fence, reason="drained")
    again = queue.claim("other", LEASE)
    assert again is not None
    assert (again.run_id, again.fence) == (moved.run_id, moved.fence + 1)


def test_a_run_has_started_when_it_was_first_claimed() -> None:
    moved = claimed()
    first = Run.objects.get(pk=moved.run_id)
    assert first.started_at is not None
    transitions.hand_back(moved.run_id, moved.fence, reason="drained")
    assert queue.claim("other", LEASE)
    second = Run.objects.get(pk=moved.run_id)
    assert second.started_at == first.started_at
    assert second.claimed_at is not None
    assert second.claimed_at > first.started_at


def test_an_append_numbers_events_without_gaps_and_adds_up_what_was_spent() -> None:
    moved = claimed()
    events = journal.append(
        moved.run_id, moved.fence, [STEP, STEP.__class__(kind=Kind.TOOL_CALLED)],
        Spent(steps=1, input_tokens=10, output_tokens=5),
    )  # fmt: skip
    assert [event.seq for event in events] == [3, 4]
    run = Run.objects.get(pk=moved.run_id)
    assert (run.last_seq, run.steps, run.input_tokens, run.output_tokens) == (4, 1, 10, 5)


@pytest.mark.parametrize("how", ["expired", "fence", "finished"])
def test_whoever_lost_the_lease_writes_nothing(how: str) -> None:
    moved = claimed()
    fence = moved.fence
    if how == "expired":
        expire(moved.run_id)
    elif how == "fence":
        fence -= 1
    else:
        transitions.finish(moved.run_id, fence, Status.SUCCEEDED)
    before = RunEvent.objects.count()
    with pytest.raises(LeaseLost):
        journal.append(moved.run_id, fence, [STEP])
    assert transitions.finish(moved.run_id, fence, Status.FAILED) is None
    assert transitions.hand_back(moved.run_id, fence, reason="drained") is None
    assert transitions.wait(moved.run_id, fence, reason="doubt", details={}, expires=1) is None
    assert RunEvent.objects.count() == before


def test_an_append_repeated_after_a_lost_answer_adds_nothing() -> None:
    moved = claimed()
    first = journal.append(moved.run_id, moved.fence, [STEP], Spent(steps=1))
    again = journal.append(moved.run_id, moved.fence, [STEP], Spent(steps=1))
    assert again == first
    assert Run.objects.get(pk=moved.run_id).steps == 1


def test_a_finish_stores_outcome_and_last_entries_together() -> None:
    moved = claimed()
    done = transitions.finish(
        moved.run_id, moved.fence, Status.SUCCEEDED, before=[STEP], spent=Spent(steps=1),
        output="ok", output_data={"n": 1},
    )  # fmt: skip
    assert done is not None
    run = Run.objects.get(pk=moved.run_id)
    assert (run.status, run.output, run.output_data, run.steps) == ("succeeded", "ok", {"n": 1}, 1)
    assert run.finished_at is not None
    assert [e.kind for e in journal.read(run.pk)][-2:] == [Kind.MODEL_ANSWERED, Kind.FINISHED]


def test_two_finishes_at_once_leave_one_terminal_event() -> None:
    moved = claimed()
    done = in_parallel(lambda: transitions.finish(moved.run_id, moved.fence, Status.SUCCEEDED), 6)
    assert sum(result is not None for result in done) == 1
    assert RunEvent.objects.filter(run_id=moved.run_id, kind=Kind.FINISHED).count() == 1


def test_nobody_ends_a_run_as_cancelled_whose_cancellation_nobody_asked_for() -> None:
    moved = claimed()
    assert transitions.finish(moved.run_id, moved.fence, Status.CANCELLED) is None
    assert Run.objects.get(pk=moved.run_id).status == Status.RUNNING


def test_a_requested_cancellation_wins_over_every_other_ending() -> None:
    moved = claimed()
    assert transitions.request_cancel([moved.run_id], "alice")
    assert not transitions.request_cancel([moved.run_id], "bob")
    assert transitions.finish(moved.run_id, moved.fence, Status.SUCCEEDED) is None
    assert transitions.hand_back(moved.run_id, moved.fence, reason="drained") is None
    assert transitions.finish(moved.run_id, moved.fence, Status.CANCELLED)


def test_cancel_of_a_queued_run_is_immediate_and_journaled_with_who() -> None:
    run = services.cancel(factories.OPERATOR, factories.run())
    assert run.status == "cancelled"
    assert journal.read(run.pk)[-1].payload == {"status": "cancelled", "by": "tests"}
    with pytest.raises(RunFinished, match="has ended already: cancelled"):
        services.cancel(factories.OPERATOR, run)


def test_an_expired_lease_returns_the_run_and_counts_a_crash() -> None:
    moved = claimed()
    expire(moved.run_id)
    assert [m.run_id for m in transitions.release_expired(3)] == [moved.run_id]
    run = Run.objects.get(pk=moved.run_id)
    assert (run.status, run.crashes, run.worker) == ("queued", 1, "")


def test_a_step_forgives_earlier_crashes() -> None:
    moved = claimed()
    expire(moved.run_id)
    transitions.release_expired(3)
    again = queue.claim("w", LEASE)
    assert again is not None
    journal.append(again.run_id, again.fence, [STEP])
    assert Run.objects.get(pk=moved.run_id).crashes == 0


def test_an_answer_stored_with_the_intents_of_its_calls_forgives_earlier_crashes() -> None:
    moved = claimed()
    expire(moved.run_id)
    transitions.release_expired(3)
    again = queue.claim("w", LEASE)
    assert again is not None
    journal.append(again.run_id, again.fence, [STEP, Entry(kind=Kind.TOOL_CALLED)])
    assert Run.objects.get(pk=moved.run_id).crashes == 0


def test_announcing_a_call_forgives_nothing() -> None:
    moved = claimed()
    expire(moved.run_id)
    transitions.release_expired(3)
    again = queue.claim("w", LEASE)
    assert again is not None
    journal.append(again.run_id, again.fence, [Entry(kind=Kind.TOOL_CALLED, payload={})])
    assert Run.objects.get(pk=moved.run_id).crashes == 1


def test_the_third_crash_in_a_row_fails_the_run() -> None:
    run_id = claimed().run_id
    for _ in range(2):
        expire(run_id)
        transitions.release_expired(3)
        assert transitions.fail_expired(3, "no") == []
        assert queue.claim("w", LEASE) is not None
    expire(run_id)
    assert transitions.release_expired(3) == []
    assert [m.run_id for m in transitions.fail_expired(3, "three died")] == [run_id]
    run = Run.objects.get(pk=run_id)
    assert (run.status, run.error_code, run.crashes) == ("failed", "worker_crashed", 3)


def test_a_cancelled_run_whose_worker_died_ends_cancelled() -> None:
    moved = claimed()
    transitions.request_cancel([moved.run_id], "alice")
    expire(moved.run_id)
    assert transitions.release_expired(3) == []
    assert [m.run_id for m in transitions.cancel_expired()] == [moved.run_id]


def test_hand_backs_do_not_count_as_crashes() -> None:
    moved = claimed()
    transitions.hand_back(moved.run_id, moved.fence, reason="drained")
    assert Run.objects.get(pk=moved.run_id).crashes == 0


def test_running_time_adds_up_over_claims_and_waiting_does_not_count() -> None:
    moved = claimed()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE agent_runs SET claimed_at = clock_timestamp() - interval '7 s' WHERE id = %s",
            [moved.run_id],
        )
    transitions.wait(moved.run_id, moved.fence, reason="doubt", details={}, expires=60)
    run = Run.objects.get(pk=moved.run_id)
    assert 7000 <= run.running_ms < 12000
    assert (run.status, run.wait_reason) == ("waiting", "doubt")


def test_a_decided_run_keeps_its_place_by_age() -> None:
    moved = claimed()
    later = factories.run()
    transitions.wait(moved.run_id, moved.fence, reason="doubt", details={}, expires=60)
    seen = Run.objects.get(pk=moved.run_id).last_seq
    assert transitions.resume(moved.run_id, seen - 1, [{"by": "alice"}]) is None
    assert transitions.resume(moved.run_id, seen, [{"by": "alice"}])
    again = queue.claim("w", LEASE)
    assert again is not None
    assert again.run_id == moved.run_id < later.pk


def test_what_waits_too_long_times_out() -> None:
    moved = claimed()
    transitions.wait(moved.run_id, moved.fence, reason="doubt", details={}, expires=-1)
    queued = factories.run(queue_timeout=0.001)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.01)")
    assert {m.run_id for m in transitions.expire_idle()} == {moved.run_id, queued.pk}
    codes = dict(Run.objects.values_list("pk", "error_code"))
    assert codes == {moved.run_id: "wait_expired", queued.pk: "queue_deadline"}


def test_a_run_that_had_started_is_not_late_when_it_is_handed_back() -> None:
    factories.run(queue_timeout=60)
    moved = queue.claim("w", LEASE)
    assert moved is not None
    assert transitions.hand_back(moved.run_id, moved.fence, reason="drained")
    past_its_queue_deadline(moved.run_id)
    assert transitions.expire_idle() == []
    assert queue.claim("w", LEASE) is not None


def test_a_run_whose_queue_deadline_has_passed_is_not_started_any_more() -> None:
    run = factories.run(queue_timeout=60)
    past_its_queue_deadline(run.pk)
    assert queue.claim("w", LEASE) is None
    assert [moved.run_id for moved in transitions.expire_idle()] == [run.pk]


# --- what the database itself refuses -----------------------------------------------------------


def refused(sql: str, *parameters: int) -> None:
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def test_the_database_refuses_to_change_history() -> None:
    moved = claimed()
    transitions.finish(moved.run_id, moved.fence, Status.SUCCEEDED)
    refused("UPDATE agent_runs SET status = 'queued' WHERE id = %s", moved.run_id)
    refused("UPDATE agent_runs SET output = 'x' WHERE id = %s", moved.run_id)
    refused("UPDATE agent_run_events SET kind = 'x' WHERE run_id = %s", moved.run_id)
    refused("UPDATE agent_versions SET prompt = 'x'")


def test_the_database_refuses_states_that_make_no_sense() -> None:
    run = factories.run()
    refused("UPDATE agent_runs SET status = 'unknown' WHERE id = %s", run.pk)
    refused("UPDATE agent_runs SET status = 'running' WHERE id = %s", run.pk)
    refused("UPDATE agent_runs SET status = 'failed' WHERE id = %s", run.pk)
    refused("UPDATE agent_runs SET finished_at = now() WHERE id = %s", run.pk)


@pytest.mark.parametrize("source", list(Status))
@pytest.mark.parametrize("target", list(Status))
def test_only_listed_transitions_can_be_written(source: Status, target: Status) -> None:
    legal = target in TRANSITIONS[source]
    assert not (legal and source in TERMINAL)
    try:
        move(source, target, [STEP], where="false", sets="worker = ''", parameters={})
    except ValueError:
        assert not legal
    else:
        assert legal


def test_text_that_postgresql_refuses_is_stored_in_a_readable_form() -> None:
    moved = claimed()
    nasty = Entry(kind=Kind.TOOL_RETURNED, payload={"text": "a\0b\ud800c\\u0000"})
    journal.append(moved.run_id, moved.fence, [nasty])
    assert journal.read(moved.run_id)[-1].payload["text"] == "a\ufffdb\ufffdc\\u0000"


def test_time_that_a_provider_let_pass_in_vain_is_no_running_time() -> None:
    moved = claimed()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE agent_runs SET claimed_at = claimed_at - interval '9 s'")
    assert transitions.hand_back(
        moved.run_id, moved.fence, reason="model_unavailable", uncounted=6.0
    )
    assert Run.objects.get(pk=moved.run_id).running_ms == pytest.approx(3000, abs=900)


def test_more_time_in_vain_than_the_stretch_took_takes_nothing_back() -> None:
    moved = claimed()
    assert transitions.hand_back(
        moved.run_id, moved.fence, reason="model_unavailable", uncounted=60.0
    )
    assert Run.objects.get(pk=moved.run_id).running_ms == 0


def test_a_move_that_is_made_again_after_its_answer_was_lost_is_told_once_more() -> None:
    moved, event_id = claimed(), uuid7()
    tell = [
        transitions.hand_back(moved.run_id, moved.fence, reason="drained", event_id=event_id)
        for _ in range(2)
    ]
    assert tell[0] == tell[1]
    assert tell[0] is not None
    assert RunEvent.objects.filter(run_id=moved.run_id, kind="run.released").count() == 1
    again = queue.claim("other", LEASE)
    assert again is not None
    assert moves.stored(event_id) == tell[0]
