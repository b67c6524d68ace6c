"""A worker is killed while it carries runs in every phase; another one takes over."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from agents.models import Agent
from runs.bell import ring
from runs.entries import Kind
from runs.models import Run, RunEvent
from runs.scripted.testing import ScriptedModel
from tests.acceptance.runs.conftest import LEASE
from tests.acceptance.runs.stage import Stage, events, gapless, status
from tests.processes import Crew, Process, alive, test_database_url, until

pytestmark = pytest.mark.django_db(transaction=True)
_BEHIND = """
WITH RECURSIVE waits AS (
  SELECT pid, unnest(pg_blocking_pids(pid)) AS blocker, query
    FROM pg_stat_activity WHERE wait_event_type = 'Lock'
), behind AS (
  SELECT pid, query FROM waits WHERE blocker = %s
   UNION SELECT waits.pid, waits.query FROM waits JOIN behind ON waits.blocker = behind.pid
)
SELECT pid FROM behind WHERE query LIKE '%%status = ''succeeded''%%'
"""
RECLAIMED_WITHIN = timedelta(seconds=LEASE + 10)


@dataclass(frozen=True, kw_only=True)
class Aftermath:
    """What is known once everything has settled."""

    killed_at: datetime
    rows: dict[str, Run]
    journals: dict[str, list[RunEvent]]
    asked: dict[str, int]
    effects: dict[str, int]
    gapless: bool
    children: list[int]
    orphans: list[int]

    def of(self, phase: str, kind: Kind) -> list[RunEvent]:
        return [event for event in self.journals[phase] if event.kind == kind.value]


class RowLock(contextlib.AbstractContextManager["RowLock"]):
    """Keeps a run's row from being changed by anybody else, as long as the block lasts."""

    def __init__(self, run: Run) -> None:
        self._connection = psycopg.connect(test_database_url())
        self._connection.execute("SELECT FROM agent_runs WHERE id = %s FOR UPDATE", [run.pk])
        self._watch = psycopg.connect(test_database_url(), autocommit=True)

    def blocked_endings(self) -> list[int]:
        """The backends that wait to end the run."""
        rows = self._watch.execute(
            _BEHIND,
            [self._connection.info.backend_pid],
        ).fetchall()
        return [row[0] for row in rows]

    def end_blocked(self) -> None:
        for pid in self.blocked_endings():
            self._watch.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._watch.close()


@contextlib.contextmanager
def unreadable_versions() -> Iterator[None]:
    """No agent's version can be read: a claimed run cannot be loaded."""
    with psycopg.connect(test_database_url()) as connection:
        connection.execute("LOCK TABLE agent_versions IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


@pytest.fixture(scope="module")
def aftermath(
    database: None,
    config: Mapping[str, Any],
    model: ScriptedModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Aftermath:
    folder = tmp_path_factory.mktemp("killed")
    with Crew(folder, config) as crew:
        crew.start("keeper")
        victim, heir = crew.workers(2)
        return _play(Stage(model, folder), victim, heir)


def _play(stage: Stage, victim: Process, heir: Process) -> Aftermath:
    stage.rehearse()
    heir.freeze()
    held = stage.agent("answer", ())
    Agent.objects.filter(pk=held.pk).update(paused=True)
    runs = {
        "writing": stage.submit("note-and-hang"),
        "claimed": stage.submit("answer", tools=()),
        "recorded": stage.submit("note-and-think"),
        "reading": stage.submit("look"),
        "ending": stage.submit("think", tools=()),
        "ended": stage.submit("think", tools=()),
    }
    until(lambda: stage.effects(runs["writing"]), what="the effect")
    until(lambda: stage.asked(runs["ending"]) and stage.asked(runs["ended"]), what="the questions")
    with (
        RowLock(runs["ending"]) as ending,
        RowLock(runs["ended"]) as ended,
        unreadable_versions(),
    ):
        Agent.objects.filter(pk=held.pk).update(paused=False)
        ring()
        until(lambda: status(runs["claimed"]) == "running", what="the claim")
        until(lambda: events(runs["reading"], Kind.TOOL_CALLED), what="the look")
        until(lambda: ending.blocked_endings() and ended.blocked_endings(), what="both endings")
        until(lambda: stage.asked(runs["recorded"]) == 2, what="the second question")
        children = victim.children
        victim.kill()
        killed_at = datetime.now(UTC)
        ending.end_blocked()
    heir.thaw()
    deadline = time.monotonic() + 3
    while (left := [pid for pid in children if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    until(lambda: status(runs["writing"]) == "waiting", what="the doubt")
    for phase in runs.keys() - {"writing"}:
        stage.ended(runs[phase])
    return Aftermath(
        killed_at=killed_at,
        children=children,
        orphans=left,
        rows={phase: Run.objects.get(pk=run.pk) for phase, run in runs.items()},
        journals={phase: events(run) for phase, run in runs.items()},
        asked={phase: stage.asked(run) for phase, run in runs.items()},
        effects={phase: stage.effects(run) for phase, run in runs.items()},
        gapless=all(map(gapless, runs.values())),
    )


REPEATED = ["claimed", "recorded", "reading", "ending"]


@pytest.mark.parametrize("phase", [*REPEATED, "writing"])
def test_a_run_whose_worker_was_killed_is_claimed_again_soon(
    aftermath: Aftermath, phase: str
) -> None:
    first, second = aftermath.of(phase, Kind.CLAIMED)
    assert first.payload["worker"] != second.payload["worker"]
    assert second.at - aftermath.killed_at < RECLAIMED_WITHIN
    (released,) = aftermath.of(phase, Kind.RELEASED)
    assert released.payload["reason"] == "lease_expired"


@pytest.mark.parametrize("phase", [*REPEATED, "ended"])
def test_it_ends_in_exactly_one_terminal_state(aftermath: Aftermath, phase: str) -> None:
    assert aftermath.rows[phase].status == "succeeded"
    assert aftermath.rows[phase].output == "done"
    assert [event.payload["status"] for event in aftermath.of(phase, Kind.FINISHED)] == [
        "succeeded"
    ]
    assert aftermath.journals[phase][-1].kind == Kind.FINISHED


def test_every_journal_counts_without_a_gap(aftermath: Aftermath) -> None:
    assert aftermath.gapless


def test_killed_before_its_first_entry_the_model_is_asked_once(aftermath: Aftermath) -> None:
    assert aftermath.asked["claimed"] == 1


def test_killed_in_a_model_call_only_that_question_is_repeated(aftermath: Aftermath) -> None:
    assert aftermath.asked["recorded"] == 3
    assert len(aftermath.of("recorded", Kind.MODEL_ANSWERED)) == 2


def test_a_recorded_tool_result_is_not_asked_for_again(aftermath: Aftermath) -> None:
    assert aftermath.effects["recorded"] == 1
    assert len(aftermath.of("recorded", Kind.TOOL_CALLED)) == 1
    assert len(aftermath.of("recorded", Kind.TOOL_RETURNED)) == 1


def test_a_read_only_tool_call_in_doubt_is_announced_and_made_again(aftermath: Aftermath) -> None:
    assert [event.payload["attempt"] for event in aftermath.of("reading", Kind.TOOL_CALLED)] == [
        1,
        2,
    ]
    assert len(aftermath.of("reading", Kind.TOOL_RETURNED)) == 1
    assert aftermath.asked["reading"] == 2


def test_a_writing_tool_call_in_doubt_leaves_the_run_waiting(aftermath: Aftermath) -> None:
    row = aftermath.rows["writing"]
    assert (row.status, row.wait_reason, row.worker) == ("waiting", "doubt", "")
    assert aftermath.effects["writing"] == 1
    assert len(aftermath.of("writing", Kind.TOOL_CALLED)) == 1
    assert aftermath.asked["writing"] == 1


def test_it_waits_a_week_for_a_person(aftermath: Aftermath) -> None:
    (asked,) = aftermath.of("writing", Kind.WAITING)
    until_when = aftermath.rows["writing"].wait_expires_at
    assert until_when is not None
    assert abs(until_when - asked.at - timedelta(days=7)) < timedelta(seconds=5)


def test_killed_before_its_last_commit_the_answer_is_asked_for_again(aftermath: Aftermath) -> None:
    assert aftermath.asked["ending"] == 2
    assert len(aftermath.of("ending", Kind.MODEL_ANSWERED)) == 1


def test_killed_after_its_last_commit_was_sent_the_run_is_over(aftermath: Aftermath) -> None:
    assert aftermath.asked["ended"] == 1
    assert len(aftermath.of("ended", Kind.CLAIMED)) == 1


def test_no_tool_server_outlives_its_worker(aftermath: Aftermath) -> None:
    assert len(aftermath.children) >= 3  # two servers in the middle of a call, and their guard
    assert aftermath.orphans == []
