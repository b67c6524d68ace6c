"""``station run cancel``: runs by their number, or by filters."""

from contextlib import suppress
from typing import Any

import click
from django.db import models

import runs.commands.runs  # noqa: F401 - makes the group this command belongs to
from runs import services
from runs.commands.choosing import chosen, filters
from runs.commands.live import resource
from runs.models import Run
from runs.states import Status
from station.commands import Exit, Session, command, json_option, show_json
from station.commands.running import explain
from station.commands.text import count
from station.core.errors import InvalidInput, StationError

_AT_A_TIME = 1000
"""Runs between two looks at whether the caller is still there."""


@command("run", "cancel")
@click.argument("run_ids", metavar="[ID ...]", nargs=-1)
@filters
@click.option("--yes", is_flag=True, help="Do cancel what the filters find.")
@json_option
def cancel_runs(
    session: Session, /, *, run_ids: tuple[str, ...], yes: bool, as_json: bool, **given: Any
) -> int:
    """End runs. Queued and waiting ones end now; running ones are told to stop.

    Every run named is tried; the exit code is that of the first that could not be ended. Instead
    of naming runs, filter them: without --yes that only counts them.
    """
    filtered = any(given.values())
    if filtered == bool(run_ids):
        raise InvalidInput("ID", "name runs, or filter them", fix="Do one of the two.")
    if filtered:
        return _cancel_chosen(session, chosen(session, **given), yes=yes, as_json=as_json)
    code: int = Exit.DONE
    done = []
    for run_id in run_ids:
        try:
            run = services.cancel(session.principal, services.get(session.principal, run_id))
        except StationError as error:
            code = code or explain(error, session, as_json=as_json)
            continue
        done.append(run)
        if not as_json:
            ended = run.state is Status.CANCELLED
            session.print(f"Run {run.pk} {'is cancelled' if ended else 'is told to stop'}.")
    if as_json:
        show_json(session, [resource(run) for run in done])
    return code


def _cancel_chosen(
    session: Session, rows: models.QuerySet[Run], *, yes: bool, as_json: bool
) -> int:
    live = services.unfinished(rows)
    newest = live.order_by("-pk").values_list("pk", flat=True).first() or 0
    meant = live.filter(pk__lte=newest)  # what is submitted from now on is not
    if not yes and (found := meant.count()):
        raise InvalidInput(
            "--yes", f"is needed to cancel {count(found, 'run')}", fix="Nothing is cancelled yet."
        )
    total, some = 0, int(yes)
    with suppress(KeyboardInterrupt):
        while some and not session.cancelled():
            some = services.cancel_many(session.principal, meant, limit=_AT_A_TIME)
            total += some
    if as_json:
        show_json(session, {"cancelled": total})
    else:
        session.print(f"{count(total, 'run')} cancelled or told to stop.")
    if some and (left := meant.count()):
        session.note(f"Interrupted: {_are(left)} left. The same command goes on.")
        return Exit.INTERRUPTED
    return Exit.DONE


def _are(runs: int) -> str:
    return "1 run is" if runs == 1 else f"{runs} runs are"
