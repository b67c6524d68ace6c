"""``station run events``: a run's journal as it stands."""

import click

import runs.commands.runs  # noqa: F401 - makes the group this command belongs to
from runs import journal, services
from runs.bus import event_json
from runs.commands.live import teller
from runs.states import Status
from station.commands import Exit, Session, command, json_option

_PAGE = 200


@command("run", "events")
@click.argument("run_id", metavar="ID")
@click.option("--after", type=click.IntRange(min=0), default=0, help="Behind this event's number.")
@click.option("--limit", "-n", type=click.IntRange(min=1), help="At most so many; all otherwise.")
@json_option
def show_events(
    session: Session, *, run_id: str, after: int, limit: int | None, as_json: bool
) -> int:
    """Tell what happened in a run so far, and end; `station run follow` goes on.

    A run in doubt names the calls that `station run decide` wants to hear about. With --json, an
    event a line.
    """
    run = services.get(session.principal, run_id)
    tell = teller(session, as_json=as_json)
    last, left = after, limit
    while not session.cancelled() and left != 0:
        page = journal.read(run.pk, after=last, limit=min(_PAGE, left or _PAGE))
        for event in page:
            tell.event(event_json(event))
        if not page:
            break
        last, left = page[-1].seq, None if left is None else left - len(page)
    if session.cancelled():
        return Exit.INTERRUPTED
    if left == 0 and run.last_seq > last:
        session.note(f"`--after {last}` goes on behind these.")
    elif run.state is Status.WAITING and not as_json:
        session.note(f"`station run decide {run.pk} CALL_ID happened|repeat|stop` decides.")
    return Exit.DONE
