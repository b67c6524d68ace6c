"""``station run decide``: what became of calls in doubt."""

import click

import runs.commands.runs  # noqa: F401 - makes the group this command belongs to
from runs import decisions, services
from runs.commands.live import resource
from runs.decisions import Decision, Verdict
from runs.states import Status
from station.commands import Session, command, json_option, show_json
from station.commands.options import Assignment
from station.core.errors import InvalidInput

_VERDICTS = [verdict.value for verdict in Verdict]
_VERDICT = click.Choice(_VERDICTS)


@command("run", "decide")
@click.argument("run_id", metavar="ID")
@click.argument("call_id", metavar="[CALL_ID", required=False)
@click.argument("verdict", metavar="VERDICT]", type=_VERDICT, required=False)
@click.option("--result", metavar="TEXT", help="What the tool answered; @FILE or - reads it.")
@click.option(
    "--call", "calls", type=Assignment(), metavar="CALL_ID=VERDICT", multiple=True,
    help="One more call. May be repeated.",
)  # fmt: skip
@click.option(
    "--result-of", "results", type=Assignment(), metavar="CALL_ID=TEXT", multiple=True,
    help="The result of one of several calls that happened. May be repeated.",
)  # fmt: skip
@click.option("--all", "rest", type=_VERDICT, help="The verdict on every call not named.")
@click.option("--why", default="", help="Kept in the journal.")
@json_option
def decide_run(
    session: Session,
    *,
    run_id: str,
    call_id: str | None,
    verdict: str | None,
    result: str | None,
    calls: tuple[tuple[str, str], ...],
    results: tuple[tuple[str, str], ...],
    rest: str | None,
    why: str,
    as_json: bool,
) -> None:
    """Say what became of the tool calls a waiting run is in doubt about.

    VERDICT is happened (the model goes on with --result), repeat (the call is made again) or stop
    (the run ends as failed). Every call in doubt has to be decided; `station run show ID` names
    them. With --all, --result is that of every call not named.
    """
    run = services.get(session.principal, run_id)
    open_ids = [str(call["call_id"]) for call in decisions.open_calls(run)]
    if call_id is not None and verdict is None:
        raise InvalidInput("VERDICT", "is missing", fix=f"Use one of: {', '.join(_VERDICTS)}.")
    said = [] if call_id is None else [(call_id, str(verdict))]
    said += calls
    text = None if result is None else _read(session, "--result", result)
    texts = {name: _read(session, "--result-of", value) for name, value in results}
    named = {name for name, _ in said}
    if rest is not None:
        said += [(name, rest) for name in open_ids if name not in named]
    if text is not None:
        of = [name for name in open_ids if name not in named] if rest else []
        texts |= dict.fromkeys([call_id] if call_id is not None else of, text)
    if unused := sorted(texts.keys() - {name for name, _ in said}):
        raise InvalidInput("--result-of", f"{unused[0]!r} is not decided here")
    decided = decisions.decide(
        session.principal,
        run,
        [
            Decision(call_id=name, verdict=_verdict(value), result=texts.get(name, ""))
            for name, value in said
        ],
        why=why,
    )
    if as_json:
        show_json(session, resource(decided))
    elif decided.state is Status.FAILED:
        session.print(f"Run {decided.pk} is stopped.")
    else:
        session.print(f"Run {decided.pk} goes on.")
        session.note(f"`station run follow {decided.pk}` follows it.")


def _verdict(text: str) -> Verdict:
    if text not in _VERDICTS:
        raise InvalidInput(
            "--call", f"{text!r} is no verdict", fix=f"Use one of: {', '.join(_VERDICTS)}."
        )
    return Verdict(text)


def _read(session: Session, what: str, text: str) -> str:
    """The text itself, or that of ``@FILE`` or ``-``."""
    if text == "-":
        return session.read_stdin(what)
    return session.read_file(what, text[1:]) if text.startswith("@") else text
