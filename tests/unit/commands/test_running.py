"""The registry, exit codes and errors, with commands of the test's own."""

import io
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import click
import pytest
from django.db import DataError

from station.commands.exits import Exit
from station.commands.options import (
    Assignment,
    Duration,
    Moment,
    environment_option,
    json_option,
)
from station.commands.registry import Registry
from station.commands.session import Session
from station.core.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    StationError,
    Unauthenticated,
    Unavailable,
)
from tests.unit.commands.seats import Outcome, outcome, seat

SURROGATES = "surrogates not allowed"


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.group("thing", help="Things.")

    @registry.command("thing", "show")
    @click.argument("name")
    @click.option("--times", type=int, default=1)
    @json_option
    def show(session: Session, *, name: str, times: int, as_json: bool) -> None:
        """Show a thing."""
        for _ in range(times):
            session.print(f"{name} as {session.principal.label}, json {as_json}")

    return registry


def run(registry: Registry, *argv: str, **options: object) -> Outcome:
    return outcome(lambda session: registry.invoke(argv, session), seat(**options))  # type: ignore[arg-type]


def failing(registry: Registry, error: BaseException) -> None:
    @registry.command("fail")
    @json_option
    def fail(session: Session, *, as_json: bool) -> None:
        raise error


def test_a_command_gets_its_session_and_its_options(registry: Registry) -> None:
    done = run(registry, "thing", "show", "a", "--times", "2", "--json")
    assert done == Outcome(code=0, out="a as cli:tester, json True\n" * 2, err="")


def test_help_goes_to_the_session_and_exits_0(registry: Registry) -> None:
    done = run(registry, "thing", "show", "--help")
    assert done.code == 0
    assert "Show a thing." in done.out
    assert "--times" in done.out
    assert done.err == ""


def test_help_is_as_wide_as_the_session(registry: Registry) -> None:
    done = run(registry, "thing", "--help", width=40)
    assert max(map(len, done.out.splitlines())) <= 40


def test_a_group_without_a_command_shows_its_help_as_wrong_usage(registry: Registry) -> None:
    done = run(registry, "thing")
    assert done.code == 2
    assert "show  Show a thing." in done.out


def test_a_mistyped_command_is_wrong_usage_and_names_the_nearest(registry: Registry) -> None:
    done = run(registry, "thing", "shoe")
    assert done.code == 2
    assert "Did you mean 'show'?" in done.err
    assert "`station thing --help`" in done.err
    assert done.out == ""


def test_a_mistyped_option_names_the_nearest(registry: Registry) -> None:
    assert "--times" in run(registry, "thing", "show", "a", "--tims", "2").err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StationError("no"), 1),
        (Unavailable("no"), 1),
        (InvalidInput("field", "no"), 2),
        (NotFound("no"), 3),
        (Forbidden("no"), 4),
        (Unauthenticated("no"), 4),
        (Conflict("no"), 5),
    ],
)
def test_an_expected_failure_has_the_exit_code_of_its_kind(
    registry: Registry, error: StationError, code: int
) -> None:
    failing(registry, error)
    assert run(registry, "fail").code == code


def test_an_expected_failure_is_told_once_with_its_fix(registry: Registry) -> None:
    failing(registry, Conflict("It is taken.", fix="Take another."))
    assert run(registry, "fail").err == "Error: It is taken.\nTake another.\n"


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        ("most_of_all", "--most"),
        ("most_of_all.b[0]", "--most.b[0]"),
        ("environment", "--env"),
        ("env", "env"),
        ("most_of", "most_of"),
        ("name", "name"),
    ],
)
def test_a_field_is_told_by_the_option_it_came_from(
    registry: Registry, field: str, shown: str
) -> None:
    @registry.command("fail")
    @click.argument("name", required=False)
    @environment_option()
    @click.option("-m", "--most", "most_of_all")
    def fail(session: Session, /, **_: object) -> None:
        raise InvalidInput(field, "is wrong", fix="Mend it.")

    assert run(registry, "fail").err == f"Error: {shown}: is wrong\nMend it.\n"


@pytest.mark.parametrize(
    "error", [DataError("integer out of range"), UnicodeEncodeError("utf-8", "x", 0, 1, SURROGATES)]
)
def test_what_the_database_cannot_take_is_input_that_is_not_valid(
    registry: Registry, error: Exception
) -> None:
    failing(registry, error)
    done = run(registry, "fail")
    assert (done.code, "cannot store" in done.err) == (2, True)


def test_with_json_an_expected_failure_is_a_json_object_on_stderr(registry: Registry) -> None:
    failing(registry, InvalidInput("name", "is empty", fix="Give one."))
    done = run(registry, "fail", "--json")
    assert done.out == ""
    assert json.loads(done.err)["error"] == {
        "code": "invalid_input",
        "message": "name: is empty",
        "fix": "Give one.",
        "errors": [{"field": "name", "problem": "is empty", "fix": "Give one."}],
    }


def test_with_json_wrong_usage_is_a_json_object_too(registry: Registry) -> None:
    done = run(registry, "thing", "show", "--json")
    assert (done.code, done.out) == (2, "")
    assert json.loads(done.err)["error"]["code"] == "wrong_usage"


def test_a_bug_is_told_by_a_reference_only_and_logged_without_arguments(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    failing(registry, RuntimeError("the inside"))
    done = run(registry, "fail")
    assert done.code == 1
    assert "the inside" not in done.err + done.out
    assert "Traceback" not in done.err
    (record,) = caplog.records
    reference = record.getMessage().rpartition("=")[2]
    assert reference in done.err
    assert record.exc_info is not None


def test_ctrl_c_is_130_without_a_word(registry: Registry) -> None:
    failing(registry, KeyboardInterrupt())
    assert run(registry, "fail") == Outcome(code=130, out="", err="")


def test_a_reader_that_left_is_no_error(registry: Registry) -> None:
    failing(registry, BrokenPipeError())
    assert run(registry, "fail") == Outcome(code=141, out="", err="")


def test_a_message_cannot_steer_the_terminal(registry: Registry) -> None:
    failing(registry, NotFound("no \x1b[2Jrun \x9b31m\u202e'x'"))
    assert run(registry, "fail").err == "Error: no [2Jrun 31m'x'\n"


def test_an_argument_cannot_steer_the_terminal_through_a_usage_error(registry: Registry) -> None:
    assert "\x1b" not in run(registry, "\x1b[2J").err


def test_a_command_is_registered_once(registry: Registry) -> None:
    with pytest.raises(ValueError, match="already"):
        registry.command("thing", "show")


def test_a_command_needs_its_group(registry: Registry) -> None:
    with pytest.raises(ValueError, match="no group 'nothing'"):
        registry.command("nothing", "show")


def test_sessions_in_several_threads_do_not_mix(registry: Registry) -> None:
    gate = threading.Barrier(8)

    @registry.command("thing", "meet")
    @click.argument("name")
    def meet(session: Session, *, name: str) -> None:
        """Wait for the others."""
        gate.wait(timeout=10)
        session.print(name)

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda n: run(registry, "thing", "meet", str(n)), range(8)))
    assert [each.out for each in done] == [f"{n}\n" for n in range(8)]


def test_the_process_streams_stay_untouched(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    for argv in (["--help"], ["thing"], ["thing", "show", "a"], ["nothing"]):
        run(registry, *argv)
    assert capsys.readouterr() == ("", "")


def test_a_command_without_a_database_ends_as_it_should_though_django_is_loaded() -> None:
    program = (
        "import django.db.models\nfrom station.cli.main import main\n"
        "raise SystemExit(main(['drill', 'x']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (Exit.NOT_FOUND, "")
    assert done.stderr.startswith("Error: There is no drill 'x'.")


@pytest.mark.parametrize("text", ["300", "x", "", "-5s"])
def test_a_duration_needs_its_unit(text: str) -> None:
    with pytest.raises(click.BadParameter, match="30s"):
        Duration().convert(text, None, None)


def test_a_moment_is_a_time_or_how_long_ago() -> None:
    moment = Moment().convert("2026-01-31T12:00:00", None, None)
    assert moment.isoformat() == "2026-01-31T12:00:00+00:00"
    past, future = Moment().convert("1h", None, None), Moment(ahead=True).convert("1h", None, None)
    assert 7199 < (future - past).total_seconds() < 7201
    with pytest.raises(click.BadParameter):
        Moment().convert("yesterday", None, None)


def test_an_assignment_splits_at_its_first_equals_sign() -> None:
    assert Assignment().convert("A=b=c", None, None) == ("A", "b=c")
    with pytest.raises(click.BadParameter):
        Assignment().convert("A", None, None)


def test_a_file_is_read_at_the_host_only(tmp_path: pytest.TempPathFactory) -> None:
    path = f"{tmp_path}/f"
    with open(path, "w") as file:
        file.write("text")
    assert seat(host=True).read_file("file", path) == "text"
    with pytest.raises(InvalidInput, match="host's own shell"):
        seat().read_file("file", path)
    assert seat(stdin="more").read_file("file", "-") == "more"
    with pytest.raises(InvalidInput, match="cannot be read"):
        seat(host=True).read_file("file", path + "x")


def test_a_secret_that_nobody_can_be_asked_for_names_the_option() -> None:
    with pytest.raises(InvalidInput, match="--password-stdin"):
        seat().hidden_line("password", option="--password-stdin")


def test_a_secret_typed_differently_the_second_time_is_refused() -> None:
    typed = iter(["one", "two"])
    session = seat(ask_hidden=lambda _: next(typed))
    with pytest.raises(InvalidInput, match="differ"):
        session.hidden_line("password", option="--stdin", repeat=True)


def test_stdin_that_is_no_utf_8_is_refused() -> None:
    session = seat()
    bad = Session(
        principal=session.principal,
        stdout=session.stdout,
        stderr=session.stderr,
        stdin=io.TextIOWrapper(io.BytesIO(b"\xff"), encoding="utf-8"),
    )
    with pytest.raises(InvalidInput, match="UTF-8"):
        bad.read_stdin("value")
