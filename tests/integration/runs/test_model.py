"""The moves of runs against a model of them; docs/specification.md says the same in words.

Hypothesis plays several workers, people, two keepers and the clock against the real database, and
after every move compares each row and each journal with the model. A worker here never forgets a
claim, so most of them are zombies that try to write after they lost their run.
"""

import math

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from runs.decisions import Verdict
from runs.entries import Kind
from runs.states import TERMINAL, Status
from tests.integration.runs import modelling
from tests.integration.runs.modelled_queue import STEPS, WORKERS, Queue
from tests.integration.runs.modelling import LEASE

LEASE_ENDS = math.ceil(LEASE / modelling.STEP_OF_TIME)


class Station(Queue):
    """Also several moves in a row, to which random moves would rarely come."""

    @rule(worker=st.sampled_from(WORKERS), kinds=STEPS)
    def a_worker_carries_a_run_to_its_end(self, worker: str, kinds: list[Kind]) -> None:
        self.claim(worker)
        if self.taken:
            self.append_a_step(0, kinds)
            self.finish(0, Status.SUCCEEDED)

    @rule(worker=st.sampled_from(WORKERS), delay=st.sampled_from([0.0, modelling.BACKOFF]))
    def workers_take_all_there_is_and_one_hands_back(self, worker: str, delay: float) -> None:
        """Nobody gets what is held back, whatever else is due but cannot start."""
        while self.model.pick().run is not None:
            self.claim(worker)
        self.claim(worker)
        if self.taken:
            self.hand_back(0, delay)
            self.claim(worker)

    @rule(worker=st.sampled_from(WORKERS))
    def workers_fall_silent_and_another_takes_over(self, worker: str) -> None:
        """The way to a zombie."""
        self.time_passes(steps=LEASE_ENDS)
        self.keepers_free_what_fell_silent()
        self.claim(worker)

    @rule(worker=st.sampled_from(WORKERS), kinds=STEPS)
    def another_takes_over_and_survives_a_step(self, worker: str, kinds: list[Kind]) -> None:
        self.workers_fall_silent_and_another_takes_over(worker)
        if self.taken:
            self.append_a_step(0, kinds)

    @rule(worker=st.sampled_from(WORKERS))
    def workers_die_one_after_the_other(self, worker: str) -> None:
        """Nobody finishes a step in between, so a run they all take is given up."""
        for _ in range(modelling.MOST_ATTEMPTS):
            self.workers_fall_silent_and_another_takes_over(worker)

    @precondition(lambda self: self.taken)
    @rule()
    def a_worker_lets_go_late(self) -> None:
        """Its lease is over, and nobody has freed the run yet."""
        self.time_passes(steps=LEASE_ENDS)
        self.append_a_step(0, [Kind.MODEL_ANSWERED])
        self.append_again(0)
        self._let_go_somehow()

    @precondition(lambda self: self._owner_at_work())
    @rule()
    def a_cancellation_comes_before_the_worker_lets_go(self) -> None:
        self.cancel(self.claim_at(0).run_id)
        self._let_go_somehow()

    @precondition(lambda self: self._owner_at_work())
    @rule(worker=st.sampled_from(WORKERS), verdict=st.sampled_from(Verdict))
    def a_person_answers_the_question_before_this_one(self, worker: str, verdict: Verdict) -> None:
        run_id = self.claim_at(0).run_id
        self.wait(0)
        asked = self.look(run_id)
        self.decide(asked, Verdict.REPEAT)
        if (found := self.model.pick().run) is not None and found.id == run_id:
            self.claim(worker)
            self.wait(self.order().index(self.taken[-1]))
        self.decide(asked, verdict)

    @precondition(lambda self: self._owner_at_work())
    @rule()
    def a_run_is_cancelled_while_it_waits(self) -> None:
        run_id = self.claim_at(0).run_id
        self.wait(0)
        self.cancel(run_id)

    def _owner_at_work(self) -> bool:
        """Some claim counts, and nobody has cancelled its run."""
        if not self.taken:
            return False
        claim = self.claim_at(0)
        run = self.model.runs[claim.run_id]
        return run.owned(claim.fence, self.model.now) and not run.cancelling

    def _let_go_somehow(self) -> None:
        """In every way, one after the other: none of them is allowed here, but the model knows."""
        self.wait(0)
        self.hand_back(0, 0.0)
        self.retry_later(0, 0.0, 1)
        for ending in sorted(TERMINAL - {Status.CANCELLED}):
            self.finish(0, ending)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("derandomize", [False, True], ids=["by-chance", "always-the-same"])
def test_the_moves_of_runs_keep_to_their_specification(derandomize: bool) -> None:
    run_state_machine_as_test(
        Station,
        settings=settings(
            max_examples=20,
            stateful_step_count=50,
            derandomize=derandomize,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            phases=(Phase.reuse, Phase.generate),  # add Phase.shrink for the shortest failure
        ),
    )
