"""The form on the page of a run that waits for a person to decide about calls."""

from collections.abc import Mapping
from typing import Any

from django.http import QueryDict

from runs import decisions
from runs.admin.timeline import pretty, text
from runs.decisions import Decision, Verdict
from runs.models import Run
from runs.states import Status
from station.core.errors import InvalidInput
from station.core.principal import Principal

_WORDS = {
    Verdict.HAPPENED: "It happened",
    Verdict.REPEAT: "It did not happen: repeat it",
    Verdict.STOP: "Stop the run",
}


def waits(run: Run) -> bool:
    """Whether the run waits for a decision about calls in doubt."""
    return run.state is Status.WAITING and run.wait_reason == "doubt"


def questions(run: Run) -> list[Mapping[str, Any]]:
    """The calls in doubt as the form shows them; its fields are numbered like them."""
    if not waits(run):
        return []
    return [
        {
            "call_id": call["call_id"],
            "tool": call["tool"],
            "arguments": text("arguments", pretty(call["arguments"])),
            "verdicts": [(verdict.value, words) for verdict, words in _WORDS.items()],
        }
        for call in decisions.open_calls(run)
    ]


def decide(principal: Principal, run: Run, given: QueryDict) -> str:
    """Decide as the form says; what to tell the person."""
    said = []
    for number in range(len(given)):
        call_id = given.get(f"call-{number}")
        if call_id is None:
            break
        verdict = given.get(f"verdict-{number}", "")
        if verdict not in list(Verdict):
            raise InvalidInput(call_id, "is undecided", fix="Choose what became of the call.")
        # A result typed before another verdict was chosen is not meant.
        result = given.get(f"result-{number}", "") if verdict == Verdict.HAPPENED else ""
        said.append(Decision(call_id=call_id, verdict=Verdict(verdict), result=result))
    decided = decisions.decide(principal, run, said, why=given.get("why", ""))
    ended = decided.state is Status.FAILED
    return f"Run {run.pk} is stopped." if ended else f"Run {run.pk} goes on."
