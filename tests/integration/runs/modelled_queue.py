"""The moves of workers, keepers and time, for :mod:`test_model`: each in SQL and in the model."""

from decimal import Decimal

import psycopg
import pytest
from django.db import connection, transaction
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from runs import journal, queue, transitions
from runs.entries import Entry, Kind, Spent
from runs.errors import LeaseLost
from runs.leases import Leases, WorkerReport
from runs.moves import Moved
from runs.states import TERMINAL, Status
from tests.integration.runs import modelling
from tests.integration.runs.modelled_house import Claim, House
from tests.integration.runs.modelling import LEASE, MOST_ATTEMPTS, Search
from tests.processes import test_database_url as database_url

CLAIMS = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3, 5])
"""Which claim acts, by its place in ``Queue.order``."""
WORKERS = ("w1", "w2", "w3")
STEPS = st.sampled_from(
    [[Kind.MODEL_ANSWERED], [Kind.TOOL_RETURNED], [Kind.MODEL_ANSWERED, Kind.TOOL_CALLED]]
)
COSTS = Spent(steps=1, input_tokens=3, output_tokens=5, cost_usd=Decimal("0.01"))
"""What every append and every answer adds."""
_PASS = """
UPDATE agent_runs
   SET lease_expires_at = lease_expires_at - step, claimed_at = claimed_at - step,
       available_at = available_at - step, wait_expires_at = wait_expires_at - step,
       queue_deadline = queue_deadline - step
  FROM make_interval(secs => %(by)s) AS step
 WHERE status IN ('queued', 'running', 'waiting')
"""


class Queue(House):
    """The moves of workers, keepers and time."""

    # --- the workers -----------------------------------------------------------------------------

    @rule(worker=st.sampled_from(WORKERS))
    def claim(self, worker: str) -> None:
        expected = self.model.pick()
        self._claimed(queue.claim(worker, LEASE), expected, worker)

    @rule()
    def two_claim_at_once(self) -> None:
        """The second one decides before the first one has committed."""
        first = self.model.pick()
        beside = None
        with transaction.atomic():
            moved = queue.claim("w1", LEASE)
            second = self.model.pick(first)
            try:
                beside = self._elsewhere(lambda: queue.claim("w2", LEASE))
            except queue.Contended:
                assert second.run is None
                assert second.contended
            else:
                assert beside or not second.contended
        self._claimed(moved, first, "w1")
        self._claimed(beside, second, "w2")

    def _claimed(self, moved: Moved | None, expected: Search, worker: str) -> None:
        if moved is None:
            assert expected.run is None
            return
        assert expected.run is not None
        assert moved.run_id == expected.run.id
        run = self.model.claim(expected.run, worker)
        agent = run.agent
        assert agent.most is None or self.model.running(agent=agent) <= agent.most
        home = next(each for each in self.model.environments if each.id == agent.environment)
        assert home.most is None or self.model.running(home) <= home.most
        same = self.model.running(agent=agent, key=run.key)
        assert not run.key or same <= agent.most_per_key
        assert (moved.fence, moved.event.seq) == (run.fence, run.seq)
        self.taken.append(Claim(worker=worker, run_id=moved.run_id, fence=moved.fence))

    def claim_at(self, at: int) -> Claim:
        """One of the claims ever made: first come those that count, then the zombies."""
        order = self.order()
        return order[at % len(order)]

    def order(self) -> list[Claim]:
        live = [
            claim
            for claim in self.taken
            if self.model.runs[claim.run_id].owned(claim.fence, self.model.now)
        ]
        return live + [claim for claim in reversed(self.taken) if claim not in live]

    @precondition(lambda self: self.taken)
    @rule(at=CLAIMS, kinds=STEPS)
    def append_a_step(self, at: int, kinds: list[Kind]) -> None:
        claim = self.claim_at(at)
        self._append(claim, kinds, kept=True)

    @precondition(lambda self: self.taken)
    @rule(at=CLAIMS)
    def announce_a_call(self, at: int) -> None:
        claim = self.claim_at(at)
        if self._append(claim, [Kind.MODEL_RETRIED, Kind.TOOL_CALLED], kept=True):
            run = self.model.runs[claim.run_id]
            run.calls.append(f"c{run.seq}")

    @precondition(lambda self: self.taken)
    @rule(at=CLAIMS)
    def append_and_lose_the_connection(self, at: int) -> None:
        """The server rolled back, and the worker cannot know."""
        claim = self.claim_at(at)
        self._append(claim, [Kind.MODEL_ANSWERED], kept=False)

    @precondition(lambda self: self.taken)
    @rule(at=CLAIMS)
    def append_again(self, at: int) -> None:
        """After a commit whose answer was lost, or that never came."""
        claim = self.claim_at(at)
        if not claim.sent:
            return
        run = self.model.runs[claim.run_id]
        if not run.owned(claim.fence, self.model.now):
            with pytest.raises(LeaseLost):
                journal.append(claim.run_id, claim.fence, claim.sent, COSTS)
            return
        events = journal.append(claim.run_id, claim.fence, claim.sent, COSTS)
        if claim.stored is None:
            run.append([entry.kind for entry in claim.sent])
            run.spend(COSTS)
            claim.stored = events
        assert events == claim.stored

    def _append(self, claim: Claim, kinds: list[Kind], *, kept: bool) -> bool:
        """Append as a worker does; whether it was stored."""
        run = self.model.runs[claim.run_id]
        entries = [Entry(kind=kind) for kind in kinds]
        owned = run.owned(claim.fence, self.model.now)
        try:
            with transaction.atomic():
                events = journal.append(claim.run_id, claim.fence, entries, COSTS)
                transaction.set_rollback(not kept)
        except LeaseLost:
            assert not owned
            return False
        assert owned
        claim.sent, claim.stored = entries, events if kept else None
        if kept:
            run.append(kinds)
            run.spend(COSTS)
            assert [event.seq for event in events][-1] == run.seq
        return kept

    @precondition(lambda self: self.taken)
    @rule(worker=st.sampled_from(WORKERS))
    def renew(self, worker: str) -> None:
        """One heartbeat over everything the worker believes to hold, zombies included."""
        lost: list[tuple[int, int]] = []
        told: list[tuple[int, int]] = []
        report = WorkerReport(name=worker, host="h", pid=1, slots=1, busy=0, draining=False)
        leases = Leases(
            url="",
            lease=LEASE,
            heartbeat=5,
            report=lambda: report,
            on_lost=lambda run_id, fence: lost.append((run_id, fence)),
            on_cancel=lambda run_id, fence: told.append((run_id, fence)),
        )
        held = {claim.run_id: claim.fence for claim in self.taken if claim.worker == worker}
        for run_id, fence in held.items():
            leases.add(run_id, fence, 0.0)
        with psycopg.connect(database_url(), autocommit=True) as own:
            assert leases._renew(own)
        ours = [
            run
            for run_id, fence in held.items()
            if (run := self.model.runs[run_id]).owned(fence, self.model.now)
        ]
        for run in ours:
            run.lease_until = self.model.now + LEASE
        assert set(lost) == held.items() - {(run.id, run.fence) for run in ours}
        assert set(told) == {(run.id, run.fence) for run in ours if run.cancelling}

    @precondition(lambda self: self.taken)
    @rule(at=CLAIMS, target_=st.sampled_from([*sorted(TERMINAL), Status.SUCCEEDED]))
    def finish(self, at: int, target_: Status) -> None:
        claim = self.claim_at(at)
        run = self.model.runs[claim.run_id]
        answered = target_ is Status.SUCCEEDED
        moved = transitions.finish(
            claim.run_id,
            claim.fence,
            target_,
            before=[Entry(kind=Kind.MODEL_ANSWERED)] if answered else [],
            spent=COSTS if answered else None,
        )
        allowed = run.cancelling == (target_ is Status.CANCELLED)
        if self._left(claim, moved, allowed):
            if answered:
                run.journal.append(Kind.MODEL_ANSWERED)
                run.spend(COSTS)
            run.leave(target_, self.model.now, Kind.FINISHED)
            self.model.advance()

    @precondition(lambda self: self.taken)
    @rule(at=CLAIMS)
    def wait(self, at: int) -> None:
        claim = self.claim_at(at)
        run = self.model.runs[claim.run_id]
        calls = run.calls or ["c0"]
        moved = transitions.wait(
            claim.run_id,
            claim.fence,
            reason="doubt",
            details={"calls": [{"call_id": call} for call in calls]},
            expires=modelling.PATIENCE,
        )
        if self._left(claim, moved, not run.cancelling):
            run.calls = list(calls)
            run.wait_until = self.model.now + modelling.PATIENCE
            run.leave(Status.WAITING, self.model.now, Kind.WAITING)
            self.model.advance()

    @precondition(lambda self: self.taken)
    @rule(at=CLAIMS, delay=st.sampled_from([0.0, modelling.BACKOFF]))
    def hand_back(self, at: int, delay: float) -> None:
        claim = self.claim_at(at)
        run = self.model.runs[claim.run_id]
        moved = transitions.hand_back(claim.run_id, claim.fence, reason="drained", delay=delay)
        if self._left(claim, moved, not run.cancelling):
            run.available_at = self.model.now + delay
            run.leave(Status.QUEUED, self.model.now, Kind.RELEASED)
            self.model.advance()

    @precondition(lambda self: self.taken)
    @rule(at=CLAIMS, delay=st.sampled_from([0.0, modelling.BACKOFF]), most=st.integers(0, 2))
    def retry_later(self, at: int, delay: float, most: int) -> None:
        claim = self.claim_at(at)
        run = self.model.runs[claim.run_id]
        moved = transitions.retry_later(
            claim.run_id,
            claim.fence,
            error=("model_unavailable", "no"),
            retry=run.retries + 1,
            at_most=most,
            delay=delay,
        )
        if self._left(claim, moved, not run.cancelling and run.retries < most):
            run.retries += 1
            run.available_at = self.model.now + delay
            run.leave(Status.QUEUED, self.model.now, Kind.RELEASED)
            self.model.advance()

    def _left(self, claim: Claim, moved: Moved | None, allowed: bool) -> bool:
        """Whether the move was made, which must be exactly when it is the owner's to make."""
        owned = self.model.runs[claim.run_id].owned(claim.fence, self.model.now)
        assert (moved is not None) == (owned and allowed)
        return moved is not None

    # --- time and the keepers --------------------------------------------------------------------

    @rule(steps=st.sampled_from([1, 1, 1, 2, 2, 3, 4, 8]))
    def time_passes(self, steps: int) -> None:
        self.model.now += steps * modelling.STEP_OF_TIME
        with connection.cursor() as cursor:
            cursor.execute(_PASS, {"by": steps * modelling.STEP_OF_TIME})

    @precondition(lambda self: self.taken)
    @rule()
    def keepers_free_what_fell_silent(self) -> None:
        """A second keeper that comes right after finds nothing."""
        freed = transitions.release_expired(MOST_ATTEMPTS)
        failed = self._elsewhere(lambda: transitions.fail_expired(MOST_ATTEMPTS, "no"))
        cancelled = transitions.cancel_expired()
        assert not self._elsewhere(lambda: transitions.release_expired(MOST_ATTEMPTS))
        silent = [run for run in self.model.runs.values() if run.silent(self.model.now)]
        ended: dict[Status, set[int]] = {status: set() for status in Status}
        for run in silent:
            if run.cancelling:
                run.leave(Status.CANCELLED, self.model.now, Kind.FINISHED)
            else:
                run.crashes += 1
                worn_out = run.crashes >= MOST_ATTEMPTS
                run.error = "worker_crashed" if worn_out else ""
                target = Status.FAILED if worn_out else Status.QUEUED
                kind = Kind.FINISHED if worn_out else Kind.RELEASED
                run.leave(target, self.model.now, kind)
            ended[run.status].add(run.id)
        self.model.advance()
        assert {moved.run_id for moved in freed} == ended[Status.QUEUED]
        assert {moved.run_id for moved in failed} == ended[Status.FAILED]
        assert {moved.run_id for moved in cancelled} == ended[Status.CANCELLED]

    @precondition(lambda self: self.model.now > 0)
    @rule()
    def keepers_expire_what_waited_too_long(self) -> None:
        expired = {moved.run_id for moved in transitions.expire_idle()}
        assert not self._elsewhere(transitions.expire_idle)
        over = set()
        for run in self.model.runs.values():
            late = run.deadline is not None and run.deadline < self.model.now
            if run.status is Status.QUEUED and late and not run.fence:
                run.error = "queue_deadline"
            elif run.status is Status.WAITING and run.wait_until < self.model.now:
                run.error = "wait_expired"
            else:
                continue
            run.move(Status.TIMED_OUT, Kind.FINISHED)
            over.add(run.id)
        self.model.advance()
        assert expired == over
