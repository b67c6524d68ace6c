"""``station agent run`` and ``station agent logs``."""

import time
from collections.abc import Iterator
from datetime import datetime

import click

# First: it makes the group that these commands belong to.
from agents.commands import find
from runs import services
from runs.bus import event_json
from runs.commands.live import narrate, resource, say_how_to_follow
from runs.entries import Event, Kind
from runs.follow import release_connection
from runs.models import Run, RunEvent
from runs.narration import failed, summary
from runs.states import LIVE
from station.commands import (
    Exit,
    Session,
    command,
    environment_option,
    json_option,
    show_json,
)
from station.commands.options import Duration, json_object
from station.commands.rendering import paint
from station.commands.text import iso, to_json

_NEWEST_RUNS = 200
_LOOK_EVERY = 1.0
_SHORTEST = 80


@command("agent", "run")
@click.argument("name")
@click.argument("input", metavar="TASK")
@environment_option()
@click.option("--follow", "-f", is_flag=True, help="Show every step until it ends.")
@click.option("--data", metavar="JSON", help="The task's particulars; @FILE reads them.")
@click.option("--priority", type=int, default=0, help="-100 to 100; higher goes first.")
@click.option("--timeout", type=Duration(), help="Running time, like 300s; the agent's otherwise.")
@click.option("--queue-timeout", type=Duration(), help="How long it may stay queued.")
@click.option("--idempotency-key", help="The same request with the same key is stored once.")
@json_option
def run_agent(
    session: Session,
    *,
    name: str,
    input: str,
    env: str | None,
    follow: bool,
    data: str | None,
    priority: int,
    timeout: float | None,
    queue_timeout: float | None,
    idempotency_key: str | None,
    as_json: bool,
) -> int:
    """Have an agent do a task; TASK - reads it from standard input.

    With --follow it exits 0 only if the run succeeds.
    """
    request = services.Request(
        input=session.read_stdin("TASK").strip() if input == "-" else input,
        data=json_object(session, "data", data) if data else {},
        priority=priority,
        timeout=timeout,
        queue_timeout=queue_timeout,
    )
    agent = find(session, name, env)
    submitted = services.submit(session.principal, agent, request, idempotency_key=idempotency_key)
    run = services.get(session.principal, submitted.pk)
    if follow:
        return narrate(session, run, as_json=as_json)
    if as_json:
        show_json(session, resource(run))
        return Exit.DONE
    session.print(f"Run {run.pk} of agent {agent.name} is {run.status}.")
    say_how_to_follow(session, run)
    return Exit.DONE


@command("agent", "logs")
@click.argument("name")
@environment_option()
@click.option(
    "--lines", "-n", type=click.IntRange(0, 10_000), default=50, show_default=True,
    help="How many events.",
)  # fmt: skip
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens now.")
@json_option
def show_logs(
    session: Session, *, name: str, env: str | None, lines: int, follow: bool, as_json: bool
) -> int:
    """What an agent did last: the events of its runs, oldest first. NAME may be its id.

    With --json, an event a line.
    """
    agent = find(session, name, env)
    seen = dict(_positions(agent.pk))
    for run_id, event in _last_events(agent.pk, lines):
        if event.seq <= seen.get(run_id, 0):  # later ones are told below
            _tell(session, run_id, event, as_json=as_json)
    if not follow:
        if not seen:
            session.note(f"Agent {agent.name} has not run yet.")
        return Exit.DONE
    try:
        while not session.cancelled():
            session.stdout.flush()
            time.sleep(_LOOK_EVERY)
            for run_id, event in _new_events(agent.pk, seen):
                _tell(session, run_id, event, as_json=as_json)
    except KeyboardInterrupt:
        pass
    return Exit.INTERRUPTED


def _tell(session: Session, run_id: int, event: Event, *, as_json: bool) -> None:
    shown = event_json(event)
    if as_json:
        session.stdout.write(to_json({"run": run_id, **shown}) + "\n")
        return
    most = max(session.width - 55, _SHORTEST) if session.interactive else 1000
    text = summary(shown, most)
    at = paint(session, iso(event.at.replace(microsecond=0)), "dim")
    text = paint(session, text, "red" if failed(event.kind, event.payload) else "")
    session.stdout.write(f"{at}  run {run_id}  {event.kind:<20}  {text}\n")


def _last_events(agent_id: int, most: int) -> list[tuple[int, Event]]:
    """The newest events of the agent's newest runs, oldest first."""
    newest = Run.objects.filter(agent_id=agent_id).order_by("-id")[:_NEWEST_RUNS]
    rows = RunEvent.objects.filter(run_id__in=list(newest.values_list("pk", flat=True)))
    return [_event(row) for row in reversed(rows.order_by("-at", "-run_id", "-seq")[:most])]


def _positions(agent_id: int) -> Iterator[tuple[int, int]]:
    """(run, number of its last event) of the runs that can have news."""
    rows = Run.objects.filter(agent_id=agent_id).order_by("-id")
    yield from rows[:_NEWEST_RUNS].values_list("pk", "last_seq")
    live = rows.filter(status__in=[status.value for status in LIVE])
    yield from live[:_NEWEST_RUNS].values_list("pk", "last_seq")


def _new_events(agent_id: int, seen: dict[int, int]) -> list[tuple[int, Event]]:
    """What was journaled since ``seen``, which is brought up to date."""
    try:
        found: list[tuple[int, Event]] = []
        now = dict(_positions(agent_id))
        for run_id, last_seq in now.items():
            if last_seq > seen.get(run_id, 0):
                rows = RunEvent.objects.filter(run_id=run_id, seq__gt=seen.get(run_id, 0))
                found += [_event(row) for row in rows.filter(seq__lte=last_seq).order_by("seq")]
        seen.clear()
        seen.update(now)
        return sorted(found, key=_when)
    finally:
        release_connection()


def _when(item: tuple[int, Event]) -> tuple[datetime, int, int]:
    run_id, event = item
    return event.at, run_id, event.seq


def _event(row: RunEvent) -> tuple[int, Event]:
    return row.run_id, Event(seq=row.seq, kind=Kind(row.kind), at=row.at, payload=row.payload)
