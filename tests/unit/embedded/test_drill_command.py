"""``station drill``: what it refuses, what it lists, and the reports it prints."""

import io
import json

import pytest

from station.cli.main import main
from station.commands.exits import Exit
from station.commands.session import Session
from station.core.errors import InvalidInput
from station.core.principal import system
from station.embedded.drills.command import DRILLS, DrillNotFound, Stopped, drill
from station.embedded.drills.failures import DrillFailed
from station.embedded.drills.history import Violation
from station.embedded.drills.report import Options, Report


def session() -> tuple[Session, io.StringIO]:
    out = io.StringIO()
    return Session(principal=system("tests"), stdout=out, stderr=io.StringIO()), out


def report() -> Report:
    return Report(drill="storm", promise="nothing breaks")


def test_the_list_names_every_drill() -> None:
    seat, out = session()
    assert drill(seat, "list", Options(), as_json=True) == 0
    assert {each["name"] for each in json.loads(out.getvalue())} == set(DRILLS)
    seat, out = session()
    assert drill(seat, "list", Options(), as_json=False) == 0
    assert out.getvalue().count("\n") == len(DRILLS)


def test_an_unknown_drill_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(DrillNotFound) as refused:
        drill(session()[0], "picnic", Options(seed=3), as_json=False)
    assert "storm" in str(refused.value.fix)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, Options(runs=1)) for name in ("bell", "caps", "crash", "drain", "zombie", "list")),
        *((name, Options(kills=0)) for name in ("bell", "caps", "crash", "drain", "zombie")),
        *((name, Options(seed=0)) for name in ("bell", "crash", "drain", "zombie", "list")),
    ],
    ids=str,
)
def test_an_option_that_means_nothing_to_a_drill_is_refused(name: str, options: Options) -> None:
    with pytest.raises(InvalidInput) as refused:
        drill(session()[0], name, options, as_json=False)
    assert name in refused.value.message
    assert "storm" in refused.value.fix


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["storm", "--runs", "0"], "'--runs': 0 is not in the range"),
        (["storm", "--kills", "-1"], "'--kills': -1 is not in the range"),
        (["storm", "--seed", "abc"], "'abc' is not a valid integer"),
        (["caps", "--runs", "3"], "--runs: means nothing to caps"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_started(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["drill", *words]) == Exit.USAGE
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""


def test_a_violation_breaks_the_promise_and_is_named_in_both_forms() -> None:
    broken = report()
    broken.expect(True, "never said")
    assert broken.held
    broken.expect([], "one is two")
    assert not broken.held
    assert "  VIOLATION one is two" in broken.lines()
    assert broken.as_json()["violations"] == ["one is two"]
    assert (broken.as_json()["carried_out"], broken.as_json()["held"]) == (True, False)


def test_a_violation_of_a_run_names_it_and_has_its_journal_kept() -> None:
    broken = report()
    broken.expect(False, "is lost", run=4)
    broken.blame([Violation(name="lost_run", run_id=5, detail="gone")])
    assert broken.violations == ["run 4: is lost", "lost_run: run 5: gone"]
    assert broken.offenders == {4, 5}


@pytest.mark.parametrize(
    ("error", "reason", "fix"),
    [
        (DrillFailed("No room.", fix="Make some."), "No room.", "Make some."),
        (Stopped("SIGTERM"), "SIGTERM", ""),
        (RuntimeError(), "RuntimeError", ""),
    ],
)
def test_a_drill_that_was_not_carried_out_says_neither_held_nor_broken(
    error: BaseException, reason: str, fix: str
) -> None:
    told = report().not_carried_out(error)
    assert (told["carried_out"], told["held"]) == (False, None)
    assert (told["reason"], told["fix"]) == (reason, fix)
    assert told.keys() >= report().as_json().keys()
