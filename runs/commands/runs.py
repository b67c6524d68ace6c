"""``station run …``"""

from collections.abc import Iterator
from typing import Any

import click
from django.utils import timezone

from runs import decisions, services
from runs.commands.choosing import chosen, filters
from runs.commands.live import narrate, resource, say_how_to_follow
from runs.models import Run
from runs.queue import why_queued
from runs.states import Status
from station.commands import (
    Exit,
    Session,
    command,
    fields,
    group,
    json_option,
    show_json,
    table,
)
from station.commands.rendering import status as shown_status
from station.commands.text import age, dollars, duration, one_line, to_json

group("run", help="Runs: look at them, follow them, cancel, retry and decide them.")

_LISTED = (
    *("id", "status", "priority", "submitted_by", "wait_reason", "input"),
    *("created_at", "started_at", "finished_at", "cancel_requested_at"),
    *("steps", "input_tokens", "output_tokens", "cost_usd"),
    *("error_code", "error_message", "error_reference"),
    *("environment__name", "agent__name", "version__number"),
)


@command("run", "list")
@filters
@click.option(
    "--limit", "-n", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most."
)
@click.option("--before-id", type=int, help="Older than this run, to page back.")
@json_option
def list_runs(
    session: Session, /, *, limit: int, before_id: int | None, as_json: bool, **given: Any
) -> None:
    """The newest runs."""
    rows = chosen(session, **given).only(*_LISTED)
    if before_id is not None:
        rows = rows.filter(pk__lt=before_id)
    found = list(rows.order_by("-id")[:limit])
    if as_json:
        from runs.api.serializers import RunSerializer  # noqa: PLC0415 - 0.2 s

        shape = RunSerializer()
        show_json(session, [shape.to_representation(run) for run in found])
        return
    table(
        session,
        ["ID", "STATUS", "ENVIRONMENT", "AGENT", "SUBMITTED", "TOOK", "STEPS", "COST", "TASK"],
        (
            [run.pk, shown_status(run.status), run.environment.name, run.agent.name,
             age(run.created_at), _took(run), run.steps, dollars(run.cost_usd),
             one_line(run.input, 60)]
            for run in found
        ),
        right=["ID", "TOOK", "STEPS", "COST"],
        empty="There is no run like that.",
    )  # fmt: skip
    if session.interactive and len(found) == limit:
        session.note(f"`--before-id {found[-1].pk}` shows older ones.")


def _took(run: Run) -> str | None:
    if run.started_at is None:
        return None
    return duration(((run.finished_at or timezone.now()) - run.started_at).total_seconds())


@command("run", "show")
@click.argument("run_id", metavar="ID")
@json_option
def show_run(session: Session, *, run_id: str, as_json: bool) -> None:
    """One run: what it was asked, how it stands, what it answered."""
    run = services.get(session.principal, run_id)
    if as_json:
        show_json(session, resource(run))
        return
    queued = run.state is Status.QUEUED
    fields(
        session,
        [
            ("id", run.pk),
            ("status", shown_status(run.status)),
            ("queued, because", why_queued(run) if queued else ""),
            ("waits for", run.wait_reason if run.state is Status.WAITING else ""),
            ("environment", run.environment.name),
            ("agent", f"{run.agent.name}, version {run.version.number}"),
            ("retry of", run.retry_of_id),
            ("key", run.concurrency_key),
            ("submitted", f"{age(run.created_at)} by {run.submitted_by}"),
            ("priority", run.priority or ""),
            ("started", age(run.started_at) if run.started_at else ""),
            ("worker", run.worker),
            ("took", _took(run)),
            ("retries", run.retries or ""),
            ("stopping", age(run.cancel_requested_at) if _stopping(run) else ""),
            ("steps", run.steps),
            ("tokens", f"{run.input_tokens:,} in, {run.output_tokens:,} out"),
            ("cost", dollars(run.cost_usd)),
            ("error", f"{run.error_message} ({run.error_code})" if run.error_code else ""),
            ("reference", run.error_reference),
            ("task", one_line(run.input)),
        ],
    )
    for line in _doubts(run):
        session.print(line)
    if run.output:
        session.print("\nanswer")
        for line in run.output.splitlines():
            session.print(f"  {line}")


def _stopping(run: Run) -> bool:
    return run.cancel_requested_at is not None and not run.is_terminal


def _doubts(run: Run) -> Iterator[str]:
    """The calls in doubt that the run waits for, and how to decide them."""
    if run.state is not Status.WAITING or run.wait_reason != "doubt":
        return
    calls = decisions.open_calls(run)
    yield "\nin doubt: these calls may have happened"
    for call in calls:
        yield f"  {call['call_id']}  {one_line(call['tool'])} {to_json(call['arguments'])}"
    yield (
        f"\nLook whether they happened, then `station run decide {run.pk} "
        f"{calls[0]['call_id']} happened|repeat|stop`."
    )


@command("run", "follow")
@click.argument("run_id", metavar="ID")
@click.option(
    "--after", type=click.IntRange(min=0), default=0, help="Begin behind the event of this number."
)
@json_option
def follow_run(session: Session, *, run_id: str, after: int, as_json: bool) -> int:
    """Tell a run step by step, from its beginning to its end; exit 0 only if it succeeds.

    Ctrl-C leaves the run going. With --json, one object a line.
    """
    run = services.get(session.principal, run_id)
    return narrate(session, run, as_json=as_json, after=after)


@command("run", "retry")
@click.argument("run_id", metavar="ID")
@click.option("--follow", "-f", is_flag=True, help="Show every step until it ends.")
@click.option("--idempotency-key", help="The same retry with the same key is made once.")
@json_option
def retry_run(
    session: Session, *, run_id: str, follow: bool, idempotency_key: str | None, as_json: bool
) -> int:
    """Do again what a run that has ended was to do: a new run, with the agent's present version.

    With --follow it exits 0 only if the new run succeeds.
    """
    ended = services.get(session.principal, run_id)
    again = services.retry(session.principal, ended, idempotency_key=idempotency_key)
    run = services.get(session.principal, again.pk)
    if follow:
        return narrate(session, run, as_json=as_json)
    if as_json:
        show_json(session, resource(run))
        return Exit.DONE
    session.print(f"Run {run.pk} is {run.status}: a retry of run {ended.pk}.")
    say_how_to_follow(session, run)
    return Exit.DONE
