"""``crash``: a process is killed at every named point; others take up what it left."""

import contextlib
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from station.embedded.drills.delays import owner, waits
from station.embedded.drills.history import Happening, RunRecord
from station.embedded.drills.nursery import Forked, Nursery
from station.embedded.drills.outcome import Outcome
from station.embedded.drills.report import Options, Report, Say
from station.embedded.drills.scripts import DONE, look, note, script, turn
from station.embedded.drills.stack import Stack, staged
from station.embedded.drills.stage import ENVIRONMENT, Stage

FOUND_WITHIN = 20.0
"""Seconds within which a run is claimed whose bell nobody rang."""
_SPARE_BELLS = 2
"""A worker that was stopped took a bell with it."""
_SCRIPTS = [
    script("note", turn(note()), DONE),
    script("look", turn(look(0.3)), DONE),
    script("linger", turn(look(2.0)), DONE),
    script("fail", {**DONE, "delay": 0.5, "error": {"status": 503, "times": 1}}),
]
_RETRY = {"on": ["model_unavailable"], "at_most": 1, "backoff": 0.1}


Case = tuple[str, str, int]
"""Script, point and passage."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What there is of a run whose first owner died at a point."""

    fence: int = 2
    last: str = ""
    """The last entry before it was first put back; "": it never was."""
    reason: str = "lease_expired"
    """Why it was put back."""
    requests: int = 2
    announced: int = 1
    """How often its call was."""
    decisions: tuple[str, ...] = ()


_ASKED = Expected(fence=3, last="tool.called", announced=2, decisions=("repeat",))
_LOOKED = Expected(last="tool.called", announced=2)
EXPECTED: Mapping[Case, Expected] = {
    ("note", "after-claim", 1): Expected(last="run.claimed"),
    ("note", "before-request", 1): Expected(last="run.claimed"),
    ("note", "after-request", 1): Expected(last="run.claimed", requests=3),
    ("note", "after-intent", 1): _ASKED,
    ("note", "before-send", 1): _ASKED,
    ("note", "after-send", 1): Expected(fence=3, last="tool.called", decisions=("happened",)),
    ("note", "after-result", 1): Expected(last="tool.returned"),
    ("note", "before-request", 2): Expected(last="tool.returned"),
    ("note", "after-request", 2): Expected(last="tool.returned", requests=3),
    ("note", "before-finish", 1): Expected(last="tool.returned", requests=3),
    ("note", "after-finish", 1): Expected(fence=1),
    ("look", "after-intent", 1): _LOOKED,
    ("look", "before-send", 1): _LOOKED,
    ("look", "after-send", 1): _LOOKED,
    ("linger", "after-hand-back", 1): Expected(last="tool.returned", reason="drained"),
    ("fail", "after-put-off", 1): Expected(last="run.claimed", reason="retry", announced=0),
}
AGAIN: Mapping[str, str] = {"after-intent": "repeat", "after-send": "happened"}
"""Where a worker dies that repeats a call for a person, and what the next person says."""


def crash(report: Report, options: Options, say: Say) -> None:
    """Kill a process at each point, and have healthy ones finish what it did."""
    del options
    ai = {"max_retries": 0, "circuit_failures": 0}
    with staged(
        report, say, scripts=_SCRIPTS, lease=3.0, shutdown_grace="4s", max_attempts=10, ai=ai
    ) as stack:
        crashing = _Crashing(stack, Stage(stack), say)
        crashing.workers()
        crashing.keeper_and_waiting()
        crashing.again()
        crashing.hand_back()
        crashing.put_off()
        crashing.submission()
        judge(report, crashing.stage.outcome(), crashing.scripts, crashing.victims)


class _Crashing:
    """The victims, and a healthy worker wherever none of them is to take a run."""

    def __init__(self, stack: Stack, stage: Stage, say: Say) -> None:
        self._stack, self.stage, self._say = stack, stage, say
        self._nursery = Nursery(stack)
        self.scripts: dict[int, str] = {}
        self.victims: list[Forked] = []

    def workers(self) -> None:
        """Each worker dies on its first run; there is no keeper, so no run is taken over yet."""
        for kind in ("note", "look"):
            cases = [(point, n) for name, point, n in EXPECTED if name == kind]
            for _ in cases:
                self._submit(kind)
            victims = [self._fork(point, passage=n) for point, n in cases]
            self._nursery.await_end(*victims)
            self._say(f"{len(victims)} workers died on a run of {kind!r}, each at a point")

    def keeper_and_waiting(self) -> None:
        """A keeper frees the runs, and dies before it rings; then a worker that asks a person."""
        asking = self._fork("after-wait")
        self._up(asking)
        freeing = self._fork("after-release", words=["keeper"])
        self._nursery.await_end(freeing)
        self._say("a keeper died between freeing leases and ringing")
        self._stack.keeper()
        self._nursery.await_end(asking)
        self._say("a worker died that had just put a run up for a person's decision")
        with self._healthy():
            self.stage.await_rest()

    def again(self) -> None:
        """Workers die that repeat a call because a person said so."""
        repeating = [self._fork(point) for point in AGAIN]
        self._up(*repeating)
        self.stage.settle()
        self._nursery.await_end(*repeating)
        self._say(f"{len(repeating)} workers died repeating a call that a person had cleared")
        with self._healthy():
            self.stage.await_ends()

    def hand_back(self) -> None:
        """A worker that is told to stop hands its run back, and dies before it rings."""
        victim = self._fork("after-hand-back")
        self._up(victim)
        run = self._submit("linger")
        self._stack.until(lambda: self.stage.entries(run, "tool.called"), "the call")
        victim.send(signal.SIGTERM)
        self._nursery.await_end(victim)
        self._say("a worker died that had just handed its run back")
        with self._healthy():
            self.stage.await_ends(run)

    def put_off(self) -> None:
        """A worker puts a failed run off, and dies before it remembers to ring."""
        victim = self._fork("after-put-off")
        self._up(victim)
        self.stage.agent("fail", retry=_RETRY)
        run = self._submit("fail")
        self._nursery.await_end(victim)
        self._say("a worker died that had just put a failed run off")
        with self._healthy():
            self.stage.await_ends(run)

    def submission(self) -> None:
        """A process that submits dies before it rings; the same is submitted once more."""
        agent, task = self.stage.agent("note").name, self.stage.new_task()
        words = ["agent", "run", agent, task, "--env", ENVIRONMENT, "--idempotency-key", task]
        self._nursery.await_end(self._fork("after-submit", words=words))
        self._say("a process died that had just stored a submission")
        repeated = self._nursery.fork("after-claim", words=words)
        self._nursery.await_end(repeated)
        self.scripts[self.stage.acknowledged(task)] = "submitted"
        with self._healthy():
            self.stage.await_ends()

    def _submit(self, kind: str) -> int:
        run = self.stage.submit(kind)
        self.stage.ring(_SPARE_BELLS)
        self.scripts[run] = kind
        return run

    def _fork(self, point: str, *, passage: int = 1, words: Sequence[str] = ("worker",)) -> Forked:
        victim = self._nursery.fork(point, passage=passage, words=words)
        self.victims.append(victim)
        return victim

    @contextlib.contextmanager
    def _healthy(self) -> Iterator[None]:
        """A worker for the block, which takes all there is; none of its runs goes on after it."""
        worker = self._nursery.worker(slots=8)
        self._up(worker)
        yield
        worker.send(signal.SIGKILL)
        self._nursery.await_end(worker)

    def _up(self, *workers: Forked) -> None:
        pids = {worker.pid for worker in workers}
        self._stack.until(lambda: pids <= self.stage.workers(), "a worker")


def judge(
    report: Report,
    outcome: Outcome,
    scripts: Mapping[int, str],
    victims: Sequence[Forked],
    *,
    expected: Mapping[Case, Expected] = EXPECTED,
    again: Sequence[str] = tuple(AGAIN),
) -> None:
    """Hold each run, by its script and its first owner's point, against what is expected.

    Each case must have occurred, and a second death at each point of ``again``. Whose owner the
    journal does not name, because a claim left no entry, is held against the history only.
    """
    for victim in victims:
        report.expect(
            victim.returncode == -signal.SIGKILL,
            f"{victim}: the process ended with {victim.returncode}, it did not come to its point",
        )
    outcome.judge_history(report)
    by_pid = {victim.pid: victim for victim in victims}
    missing = set(expected)
    died_again = []
    for record in outcome.runs:
        claims = record.of("run.claimed")
        if record.fence and not claims:
            continue  # the history has it as claimed without a trace
        first = by_pid.get(owner(claims[0])) if claims else None
        kind = scripts.get(record.run_id, "")
        if first is None or kind == "submitted":
            wanted, where = Expected(fence=1), kind
        else:
            case = (kind, first.point, first.passage)
            missing.discard(case)
            wanted, where = expected.get(case, Expected()), f"{kind}, {first}"
        repeating = [by_pid[pid] for pid in _died(record)[1:] if pid in by_pid]
        died_again += [victim.point for victim in repeating]
        _judge_run(report, outcome, record, _repeated(wanted, repeating), where)
        found = waits(record) if kind == "submitted" else waits(record)[1:]
        report.expect(
            all(seconds <= FOUND_WITHIN for seconds in found),
            f"{where}: it waited for {[round(seconds, 1) for seconds in found]} s",
            run=record.run_id,
        )
    report.expect(not missing, f"nobody died on {sorted(missing)}")
    report.expect(
        sorted(died_again) == sorted(again),
        f"died repeating a call: {died_again}, not {list(again)}",
    )
    report.count(
        processes_killed=len(victims),
        points=len({victim.point for victim in victims}),
        calls_decided_by_a_person=sum(len(run.of("run.decided")) for run in outcome.runs),
        longest_wait_for_a_worker=round(
            max((s for run in outcome.runs for s in waits(run)[1:]), default=0.0), 1
        ),
    )


def _judge_run(
    report: Report, outcome: Outcome, record: RunRecord, wanted: Expected, where: str
) -> None:
    last, reason = _put_back(record)
    decisions = tuple(str(each.payload.get("decision")) for each in record.of("run.decided"))
    found = Expected(
        fence=record.fence,
        last=last,
        reason=reason if last else wanted.reason,
        requests=outcome.asked.get(record.run_id, 0),
        announced=len(record.of("tool.called")),
        decisions=decisions,
    )
    report.expect(found == wanted, f"{where}: {found}, not {wanted}", run=record.run_id)
    waited = len(record.of("run.waiting"))
    report.expect(
        waited == len(wanted.decisions),
        f"{where}: a person was asked {waited} times, not {len(wanted.decisions)}",
        run=record.run_id,
    )


def _repeated(wanted: Expected, victims: Sequence[Forked]) -> Expected:
    """What is expected when more workers died that repeated the call for a person."""
    said = [AGAIN.get(victim.point, "") for victim in victims]
    return Expected(
        fence=wanted.fence + 2 * len(said),
        last=wanted.last,
        reason=wanted.reason,
        requests=wanted.requests,
        announced=wanted.announced + said.count("repeat"),
        decisions=(*wanted.decisions, *said),
    )


def _put_back(record: RunRecord) -> tuple[str, str]:
    """The entry before the run was first put back, and the reason; "" where it never was."""
    before: Happening | None = None
    for each in record.journal:
        if each.kind == "run.released" and before is not None:
            return before.kind, str(each.payload.get("reason"))
        before = each
    return "", ""


def _died(record: RunRecord) -> list[int]:
    """The process ids of the owners whose lease ran out, in order."""
    found, last = [], 0
    for each in record.journal:
        if each.kind == "run.claimed":
            last = owner(each)
        elif each.kind == "run.released" and each.payload.get("reason") == "lease_expired":
            found.append(last)
    return found
