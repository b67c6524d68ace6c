"""A run told live to a session."""

from typing import Any

from runs import queue
from runs.bus import event_json
from runs.entries import Event
from runs.follow import follow
from runs.models import Run
from runs.narration import JsonNarrator, Narrator
from runs.states import Status
from station.commands import Exit, Session
from station.commands.rendering import paint
from station.commands.text import one_line, to_json

_GONE = "The run has been deleted."


def resource(run: Run) -> dict[str, Any]:
    """A run as the REST API shows it, but for its links, which are paths of a web server."""
    from runs.api.serializers import RunDetailSerializer  # noqa: PLC0415 - 0.2 s

    shape = RunDetailSerializer()
    shape.fields.pop("links")
    return dict(shape.to_representation(run))


def teller(session: Session, *, as_json: bool) -> Narrator | JsonNarrator:
    """Who tells a run's events to the session."""
    return JsonNarrator(session) if as_json else Narrator(session)


def narrate(session: Session, run: Run, *, as_json: bool, after: int = 0) -> int:
    """Tell a run from behind event ``after`` to its end; 0 only if it succeeds.

    The run goes on when its listener leaves. As JSON, one object a line: first and last
    ``{"run": …}``, between them the events, and ``{"delta": …, "step": …}`` as the model speaks.
    """
    try:
        _open(session, run, as_json=as_json)
        narrator = teller(session, as_json=as_json)
        for item in follow(run.pk, after=after, stopped=session.cancelled):
            if isinstance(item, Event):
                narrator.event(event_json(item))
            else:
                narrator.delta(item.step, item.text)
    except KeyboardInterrupt:
        session.note(
            f"\nRun {run.pk} goes on. `station run follow {run.pk}` follows it again, "
            f"`station run cancel {run.pk}` ends it."
        )
        return Exit.INTERRUPTED
    last = Run.objects.select_related("agent", "environment", "version").filter(pk=run.pk).first()
    if last is None:
        session.note(_GONE)
        return Exit.NOT_FOUND
    if not last.is_terminal:  # the listener left
        return Exit.INTERRUPTED
    if as_json:
        session.stdout.write(to_json({"run": resource(last)}) + "\n")
    return Exit.DONE if last.state is Status.SUCCEEDED else Exit.FAILED


def say_how_to_follow(session: Session, run: Run) -> None:
    """Note what a submitted run waits for, and how to follow it; one that ended needs neither."""
    if run.is_terminal:
        return
    why = f"{queue.why_queued(run)} " if run.state is Status.QUEUED else ""
    session.note(f"{why}`station run follow {run.pk}` follows it.")


def _open(session: Session, run: Run, *, as_json: bool) -> None:
    if as_json:
        session.stdout.write(to_json({"run": resource(run)}) + "\n")
    else:
        name = paint(session, f"run {run.pk}", "bold")
        version = f"version {run.version.number}"
        session.stdout.write(
            f"{name}  {run.agent.name} ({version}) in {run.environment.name}: "
            f"{one_line(run.input, session.width)}\n"
        )
    session.stdout.flush()
    if run.state is Status.QUEUED:
        reason = queue.why_queued(run)
        if not reason.startswith("It is next"):
            session.note(reason)
