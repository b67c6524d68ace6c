"""``station run decide``: what became of calls in doubt."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

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
_KNOWN = f"Use one of: {', '.join(_VERDICTS)}."
_EACH_ITS_OWN = "Give each call its own with --result-of CALL_ID=TEXT."


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

    VERDICT is happened (the model goes on with the result), repeat (the call is made again) or stop
    (the run ends as failed). Every call in doubt has to be decided; `station run show ID` names
    them. --result is that of CALL_ID, or with --all that of every call not named, whichever
    happened; where both did, name each one's with --result-of. It cannot be taken back.
    """
    run = services.get(session.principal, run_id)
    open_ids = [str(call["call_id"]) for call in decisions.open_calls(run)]
    if call_id is not None and verdict is None:
        raise InvalidInput("VERDICT", "is missing", fix=_KNOWN)
    said = [] if call_id is None else [_Said(call_id=call_id, verdict=str(verdict), by="CALL_ID")]
    said += [_Said(call_id=name, verdict=value, by="--call") for name, value in calls]
    named = {each.call_id for each in said}
    if rest is not None:
        left = [name for name in open_ids if name not in named]
        said += [_Said(call_id=name, verdict=rest, by="--all") for name in left]
    texts = _texts(session, said, result, results)
    given = [
        Decision(call_id=s.call_id, verdict=s.parsed(), result=texts.get(s.call_id, ""))
        for s in said
    ]
    try:
        decided = decisions.decide(session.principal, run, given, why=why)
    except InvalidInput as error:
        raise _in_own_words(error, said, results) from None
    if as_json:
        show_json(session, resource(decided))
    elif decided.state is Status.FAILED:
        session.print(f"Run {decided.pk} is stopped.")
    else:
        session.print(f"Run {decided.pk} goes on.")
        session.note(f"`station run follow {decided.pk}` follows it.")


@dataclass(frozen=True, kw_only=True)
class _Said:
    """A verdict on a call, and which part of the command gave it."""

    call_id: str
    verdict: str
    by: str

    @property
    def happened(self) -> bool:
        return self.verdict == Verdict.HAPPENED

    def parsed(self) -> Verdict:
        if self.verdict not in _VERDICTS:
            raise InvalidInput(self.by, f"{self.verdict!r} is no verdict", fix=_KNOWN)
        return Verdict(self.verdict)


def _texts(
    session: Session,
    said: Sequence[_Said],
    result: str | None,
    results: Sequence[tuple[str, str]],
) -> dict[str, str]:
    """The result of each call that was given one.

    Raises:
        InvalidInput: it is not clear whose a result is, or whoever is meant has two or did not
            happen.
    """
    sources: dict[str, str] = {}
    verdicts = {each.call_id: each for each in said}
    for name, source in results:
        if name in sources:
            raise InvalidInput("--result-of", f"{name!r} is given two results", fix="Give one.")
        if name not in verdicts:
            raise InvalidInput("--result-of", f"{name!r} is not decided here")
        if not verdicts[name].happened:
            raise InvalidInput(
                "--result-of", f"{name!r} did not happen", fix="A result goes with happened only."
            )
        sources[name] = source
    if result is not None:
        for name in _meant(said):
            if name in sources:
                raise InvalidInput(
                    "--result", f"{name!r} has one by --result-of too", fix=_EACH_ITS_OWN
                )
            sources[name] = result
    if [result, *(source for _, source in results)].count("-") > 1:
        raise InvalidInput("--result-of", "standard input holds one result only", fix="Use @FILE.")
    read = {
        source: _read(session, "--result", source) for source in dict.fromkeys(sources.values())
    }
    return {name: read[source] for name, source in sources.items()}


def _meant(said: Sequence[_Said]) -> list[str]:
    """The calls that --result is the result of."""
    takers = [
        found
        for part in ("CALL_ID", "--all")
        if (found := [each.call_id for each in said if each.by == part and each.happened])
    ]
    if not takers:
        raise InvalidInput(
            "--result",
            "is the result of no call here",
            fix="It goes with `CALL_ID happened` or `--all happened`; else use --result-of.",
        )
    if len(takers) > 1:
        raise InvalidInput(
            "--result", f"could be that of {takers[0][0]!r} or of the others", fix=_EACH_ITS_OWN
        )
    return takers[0]


def _in_own_words(
    error: InvalidInput, said: Sequence[_Said], results: Sequence[tuple[str, str]]
) -> InvalidInput:
    """What is wrong with the decisions, told by the part of the command that is to blame."""
    blamed = re.match(r"decisions\[(\d+)\]\.(\w+)", error.field)
    if blamed is not None:
        one = said[int(blamed[1])]
        if blamed[2] == "result":
            return error.at("--result-of" if one.call_id in dict(results) else "--result")
        return error.at(one.by)
    if error.field == "decisions":
        fix = f"{error.fix} Decide each with --call CALL_ID=VERDICT, or the rest with --all."
        return InvalidInput("CALL_ID", error.problem, fix=fix)
    return error


def _read(session: Session, what: str, text: str) -> str:
    """The text itself, or that of ``@FILE`` or ``-``."""
    if text == "-":
        return session.read_stdin(what)
    return session.read_file(what, text[1:]) if text.startswith("@") else text
