"""``storm``: many runs of several kinds while everything is killed at random, all the time."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from station.embedded.drills.delays import Death, reclaims
from station.embedded.drills.outcome import Outcome
from station.embedded.drills.report import Options, Report, Say, percentile
from station.embedded.drills.scripts import kinds
from station.embedded.drills.stack import staged
from station.embedded.drills.stage import Stage
from station.embedded.drills.weather import GAP, Storm, schedule

RECLAIMED_WITHIN = 30.0
_SMALL = 200
"""Up to that many runs, leases are short and workers few, so that the storm is over soon."""
_SLOTS = 10
_SHORTEST, _LONGEST = 1.0, 15.0
_MANY = 100
"""So many kills must have brought a call into doubt."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a storm is. Its runs take the ``seconds`` that keep half of the slots busy."""

    runs: int
    kills: int
    crew: int
    lease: float
    seconds: float

    @classmethod
    def of(cls, options: Options) -> "Size":
        """The storm of so many runs and kills."""
        runs, kills = options.runs or 200, 20 if options.kills is None else options.kills
        crew, lease = (2, 6.0) if runs <= _SMALL else (4, 20.0)
        busy = crew * _SLOTS / 2
        seconds = min(max(busy * kills * GAP / runs, _SHORTEST), _LONGEST)
        return cls(runs=runs, kills=kills, crew=crew, lease=lease, seconds=seconds)


def storm(report: Report, options: Options, say: Say) -> None:
    """Carry runs through kills and check the history."""
    size = Size.of(options)
    # Whoever dies three times without a step is given up; here every run has to succeed.
    with staged(
        report, say, scripts=kinds(size.seconds), lease=size.lease, slots=_SLOTS, max_attempts=100
    ) as stack:
        stage = Stage(stack)
        seed = 1 if options.seed is None else options.seed
        raging = Storm(stack, stage, seed=seed, crew=size.crew, say=say)
        raging.rage(size.runs, schedule(seed, size.kills))
        say("the last kill is done; checking the history when every run has ended")
        raging.calm()
        judge(report, stage.outcome(), raging.felled, raging.deaths, raging.strays)
        report.count(seed=seed, lease_seconds=size.lease, run_seconds=round(size.seconds, 1))


def judge(
    report: Report,
    outcome: Outcome,
    felled: Mapping[str, int],
    deaths: Sequence[Death],
    strays: Sequence[str],
) -> None:
    """Hold the history against the guarantees, and the storm against its purpose.

    Args:
        felled: how often each kind of victim was.
        deaths: those of workers, and the times they were stopped past their leases.
        strays: processes that ended by themselves.
    """
    outcome.judge_history(report)
    for stray in strays:
        report.expect(False, f"ended_by_itself: {stray}")
    found = reclaims(outcome.runs, deaths)
    p99 = percentile([each.claimed for each in found], 0.99)
    verdicts = Counter(
        str(each.payload.get("decision")) for run in outcome.runs for each in run.of("run.decided")
    )
    report.expect(
        p99 <= RECLAIMED_WITHIN,
        f"late_reclaim: p99 {p99:.1f} s after a kill, promised are {RECLAIMED_WITHIN:.0f} s",
    )
    report.expect(found or not deaths, "proved_nothing: no kill of a worker hit a run")
    report.expect(
        verdicts or sum(felled.values()) < _MANY, "proved_nothing: no call came into doubt"
    )
    statuses = Counter(run.status for run in outcome.runs)
    report.count(
        statuses=dict(sorted(statuses.items())),
        kills=dict(sorted(felled.items())),
        claims=sum(run.fence for run in outcome.runs),
        journal_entries=sum(len(run.journal) for run in outcome.runs),
        calls_in_doubt=dict(sorted(verdicts.items())),
        runs_reclaimed=len(found),
        freed_p99_seconds=round(percentile([each.freed for each in found], 0.99), 1),
        reclaim_p50_seconds=round(percentile([each.claimed for each in found], 0.5), 1),
        reclaim_p99_seconds=round(p99, 1),
    )
