"""Every drill can be broken: what it counts, held against what was promised."""

from collections.abc import Sequence, Set
from dataclasses import replace

import pytest

from station.embedded.drills import bell, caps, drain, storm, zombie
from station.embedded.drills.caps import Carried
from station.embedded.drills.delays import Death
from station.embedded.drills.drain import Exit
from station.embedded.drills.failures import BUSY, NotInTime
from station.embedded.drills.history import Effect, RunRecord
from station.embedded.drills.outcome import Outcome
from station.embedded.drills.report import Report
from tests.unit.embedded.histories import (
    ANSWER_ONLY,
    ANSWERED,
    CALLED,
    CLAIMED,
    CONCLUDED,
    DRAINED,
    EXPIRED,
    FINISHED,
    RETURNED,
    SUBMITTED,
    WAITING,
    Step,
    after,
    decided,
    effect,
    in_doubt,
    record,
)
from tests.unit.embedded.outcomes import found, outcome, said

# --- every drill ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["failed", "timed_out", "cancelled", "waiting"])
def test_a_run_that_did_not_succeed_breaks_every_drill(status: str) -> None:
    ending = ("run.finished", {"status": status})
    steps = in_doubt("repeat")[:7] if status == "waiting" else [SUBMITTED, CLAIMED, ending]
    report = Report(drill="tested", promise="it holds")
    outcome(record(steps, status=status, error="no luck")).judge_history(report)
    assert said(report.violations, f"not_succeeded: {status}: no luck")
    assert report.offenders == {7}


def test_runs_that_did_not_end_in_time_break_every_drill() -> None:
    report = Report(drill="tested", promise="it holds")
    outcome(record(ANSWER_ONLY), in_time=False).judge_history(report)
    assert said(report.violations, "did not all end in time")


def test_a_violation_of_the_history_breaks_every_drill() -> None:
    report = Report(drill="tested", promise="it holds")
    outcome(record(), effects=[effect(), effect()]).judge_history(report)
    assert said(report.violations, "effect_repeated: run 7")


# --- bell -------------------------------------------------------------------------------------


def test_bell_holds_when_every_run_is_claimed_once_and_soon() -> None:
    assert found(bell.judge, outcome(record(ANSWER_ONLY)), 16) == []


def test_bell_breaks_when_a_run_is_claimed_twice() -> None:
    twice = record([SUBMITTED, CLAIMED, EXPIRED, CLAIMED, ANSWERED, FINISHED])
    assert said(found(bell.judge, outcome(twice), 16), "claimed 2 times")


def test_bell_breaks_when_a_run_is_found_late() -> None:
    late = record(ANSWER_ONLY, gap=15.1)
    assert said(found(bell.judge, outcome(late), 16), "claimed after 15.1 s")


@pytest.mark.parametrize("flushed", [0, 7])
def test_bell_breaks_when_there_was_no_bell_to_lose(flushed: int) -> None:
    assert said(found(bell.judge, outcome(record(ANSWER_ONLY)), flushed), "bells were lost")


# --- caps -------------------------------------------------------------------------------------


def crowd(most: int) -> list[Carried]:
    """All runs of one agent, ``most`` at once, but for those that fill the other caps."""
    runs = [
        Carried(environment=1, agent=1, key=str(number), span=(after(number // most), after(99)))
        for number in range(3)
    ]
    runs += [
        Carried(environment=1, agent=2, key=str(number), span=(after(50), after(60)))
        for number in range(2)
    ]
    left = caps.RUNS - len(runs)
    return runs + [
        Carried(environment=1, agent=1, key="0", span=(after(100 + n), after(101 + n)))
        for n in range(left)
    ]


def carried() -> Outcome:
    return outcome(*(record(ANSWER_ONLY, run_id=n) for n in range(1, caps.RUNS + 1)))


def test_caps_holds_when_each_cap_was_reached_and_none_exceeded() -> None:
    assert found(caps.judge, carried(), crowd(3), 2) == []


def test_caps_breaks_when_one_run_too_many_runs() -> None:
    runs = crowd(3)
    runs[5] = replace(runs[5], agent=3, span=(after(55), after(56)))
    assert said(found(caps.judge, carried(), runs, 1), "6 runs of one environment at once")
    runs[5] = replace(runs[5], environment=2, agent=1, key="new")
    assert said(found(caps.judge, carried(), runs, 1), "4 runs of one agent at once")
    runs[5] = replace(runs[5], agent=2, key="0")
    assert said(found(caps.judge, carried(), runs, 1), "2 runs of one key at once")


def test_caps_breaks_when_it_proved_nothing() -> None:
    alone = [replace(run, span=(after(n), after(n))) for n, run in enumerate(crowd(3))]
    assert "the cap of the environment was never reached" in found(caps.judge, carried(), alone, 1)


def test_caps_breaks_when_a_tenant_starves_or_a_claimer_fails() -> None:
    assert said(found(caps.judge, carried(), crowd(3), 3), "started at claim 3")
    assert said(found(caps.judge, carried(), crowd(3), 1, ["a claimer failed"]), "claimer failed")
    assert said(found(caps.judge, carried(), crowd(3)[:-1], 1), "119 of 120 runs")


def test_caps_breaks_when_the_other_tenant_never_starts() -> None:
    claims = iter([*[1] * (caps.CLAIMERS - 1), None, 2])
    never = caps.first_claim_from(2, lambda: next(claims))
    assert never == caps.NEVER
    assert said(found(caps.judge, carried(), crowd(3), never), "started at none of 16 claims")


def test_the_claim_that_gets_the_other_tenants_run_is_counted_from_one() -> None:
    claims = iter([1, None, 2])
    assert caps.first_claim_from(2, lambda: next(claims)) == 3


def test_caps_breaks_when_a_run_is_claimed_twice() -> None:
    twice = record([SUBMITTED, CLAIMED, EXPIRED, CLAIMED, ANSWERED, FINISHED], run_id=1)
    others = carried().runs[1:]
    assert said(found(caps.judge, outcome(twice, *others), crowd(3), 1), "claimed 2 times")


# --- drain ------------------------------------------------------------------------------------

GONE = Exit(seconds=1.0, returncode=0, forgotten=True)
HANDED_BACK = [SUBMITTED, CLAIMED, ANSWERED, CALLED, RETURNED, DRAINED, CLAIMED, CONCLUDED]
SLOW = [
    *(SUBMITTED, CLAIMED, ANSWERED, CALLED, DRAINED, CLAIMED, WAITING, decided("happened")),
    *(CLAIMED, CONCLUDED, FINISHED),
]


def drain_found(
    steps: Sequence[Step] = (*HANDED_BACK, FINISHED),
    exit_: Exit = GONE,
    *,
    asked: int | None = None,
    **runs: Set[int],
) -> list[str]:
    report = Report(drill="drain", promise="it holds")
    drain.judge(report, outcome(record(steps), effects=[effect()], asked=asked), [exit_], **runs)
    return report.violations


def test_drain_holds_when_runs_were_handed_back_and_nobody_was_asked() -> None:
    assert drain_found() == []
    assert drain_found(SLOW, slow={7}) == []


@pytest.mark.parametrize(
    ("exit_", "text"),
    [
        (replace(GONE, seconds=25.1), "took 25.1 s to go"),
        (replace(GONE, returncode=1), "ended with 1"),
        (replace(GONE, returncode=-9), "ended with -9"),
        (replace(GONE, forgotten=False), "still listed"),
    ],
)
def test_drain_breaks_when_a_worker_does_not_go_as_promised(exit_: Exit, text: str) -> None:
    assert said(drain_found(exit_=exit_), text)


def test_drain_breaks_when_nothing_was_handed_back() -> None:
    steps = [SUBMITTED, CLAIMED, ANSWERED, CALLED, RETURNED, CONCLUDED, FINISHED]
    assert said(drain_found(steps), "no run was handed back")


def test_drain_breaks_when_a_run_was_left_to_its_lease() -> None:
    steps = [EXPIRED if step == DRAINED else step for step in (*HANDED_BACK, FINISHED)]
    assert "run 7: it was released: lease_expired" in drain_found(steps)


def test_drain_breaks_when_the_wrong_runs_were_asked_about() -> None:
    assert said(drain_found(SLOW), "a person said ['happened'], not []")
    assert said(drain_found(slow={7}), "a person said [], not ['happened']")


def test_drain_breaks_when_a_run_changed_hands_because_of_the_database() -> None:
    assert said(drain_found(through={7}), "claimed 2 times")


@pytest.mark.parametrize("asked", [1, 4])
def test_drain_breaks_when_a_recorded_answer_is_asked_for_again(asked: int) -> None:
    assert said(drain_found(asked=asked), f"{asked} requests for 2 answers")


# --- storm ------------------------------------------------------------------------------------


def storm_found(
    *runs: RunRecord, deaths: Sequence[Death] = (), felled: int = 0, strays: Sequence[str] = ()
) -> list[str]:
    seen = outcome(*runs, effects=[effect(key=f"{run.run_id}:1:0") for run in runs])
    return found(storm.judge, seen, {"worker": felled}, deaths, strays)


def test_storm_holds_when_kills_hit_runs_and_calls_came_into_doubt() -> None:
    deaths = [Death(pid=100, at=after(3.5))]
    assert storm_found(record(in_doubt("happened")), deaths=deaths, felled=100) == []
    assert storm_found(record()) == []


def test_storm_breaks_when_a_run_is_found_late() -> None:
    late = record(in_doubt("happened"), gap=16.0)
    seen = outcome(late, effects=[effect(16.0 * 3)])
    violations = found(storm.judge, seen, {"worker": 1}, [Death(pid=100, at=after(48.0))], [])
    assert said(violations, "late_reclaim: p99 32.0 s")


def test_storm_breaks_when_no_kill_hit_a_run() -> None:
    deaths = [Death(pid=999, at=after(3.5))]
    assert said(storm_found(record(), deaths=deaths, felled=1), "no kill of a worker hit a run")


def test_storm_breaks_when_so_many_kills_brought_no_call_into_doubt() -> None:
    assert storm_found(record(), felled=99) == []
    assert said(storm_found(record(), felled=100), "no call came into doubt")


def test_storm_breaks_when_a_process_ended_by_itself() -> None:
    assert said(storm_found(record(), strays=["keeper 3"]), "ended_by_itself: keeper 3")


# --- zombie -----------------------------------------------------------------------------------


def test_zombie_breaks_when_who_slept_is_of_no_use_any_more() -> None:
    report = Report(drill="zombie", promise="it holds")
    seen = outcome(record(THINKING, gap=3.0), asked=2)
    zombie.judge(report, seen, {"thinking": 7}, useful=False)
    assert said(report.violations, "carries no runs any more")


def zombie_found(
    name: str,
    steps: Sequence[Step],
    *,
    asked: int,
    effects: Sequence[Effect] = (),
    gap: float = 1.0,
) -> list[str]:
    seen = outcome(record(steps, gap=gap), effects=effects, asked=asked)
    return found(zombie.judge, seen, {name: 7})


THINKING = [SUBMITTED, CLAIMED, EXPIRED, CLAIMED, ANSWERED, FINISHED]
RIGHT = effect(9.5)


def test_zombie_holds_when_only_the_successor_went_on() -> None:
    assert zombie_found("thinking", THINKING, asked=2, gap=3.0) == []
    assert zombie_found("sending", in_doubt("repeat"), asked=2, effects=[RIGHT]) == []


def test_zombie_breaks_when_it_asks_a_model() -> None:
    violations = zombie_found("thinking", THINKING, asked=3, gap=3.0)
    assert said(violations, "3 requests to its model, not 2")


def test_zombie_breaks_when_it_calls_a_tool() -> None:
    twice = [RIGHT, effect(12.0)]
    violations = zombie_found("sending", in_doubt("repeat"), asked=2, effects=twice)
    assert "run 7: sending: 2 effects, not 1" in violations
    assert any(text.startswith("effect_out_of_its_time") for text in violations)


def test_zombie_breaks_when_it_writes_a_row() -> None:
    late = [*THINKING[:5], CONCLUDED, FINISHED]
    assert said(zombie_found("thinking", late, asked=2, gap=3.0), "'model.answered': 2")


def test_zombie_breaks_when_it_ends_the_run_of_its_successor() -> None:
    violations = zombie_found("thinking", THINKING, asked=2, gap=2.9)
    assert said(violations, "ended 5.8 s after its last claim, by somebody else")


def test_zombie_names_a_run_whose_row_is_gone_and_judges_the_others() -> None:
    seen = outcome(record(THINKING, gap=3.0), asked=3, submitted=frozenset({7, 8}))
    violations = found(zombie.judge, seen, {"sending": 8, "thinking": 7})
    assert [text.partition(":")[0] for text in violations] == ["lost_run", "run 7"]


def test_zombie_that_fell_asleep_before_its_answers_came_is_judged() -> None:
    zombie.refuse_if_late(answers=0, results=0, requests=1)


@pytest.mark.parametrize(("answers", "results", "requests"), [(1, 0, 1), (0, 1, 1), (0, 0, 2)])
def test_zombie_that_saw_an_answer_before_it_slept_is_no_broken_promise(
    answers: int, results: int, requests: int
) -> None:
    with pytest.raises(NotInTime) as caught:
        zombie.refuse_if_late(answers=answers, results=results, requests=requests)
    assert caught.value.fix == BUSY
