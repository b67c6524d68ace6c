"""`station` as a process of its own."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings

from runs.models import Run
from station.cli.operators import SUMMARIES
from station.commands.registry import discovered
from tests import factories, stack

ROOT = Path(__file__).parents[3]
PATIENCE = 60


def station(
    *argv: str,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run the command line with these ``STN_*`` variables only."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("STN_")}
    own.pop("DJANGO_SETTINGS_MODULE", None)
    return subprocess.run(
        [sys.executable, "-m", "station.cli.main", *argv],
        env={**own, "PYTHONPATH": f"{ROOT}:{ROOT / 'mcp'}", **(environ or {})},
        cwd=cwd or ROOT / "tests",
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture
def configured(tmp_path: Path) -> dict[str, str]:
    """The variables of a Station on this test's own database."""
    url = urlsplit(stack.services.database_url)
    return {
        "STN_DATABASE_URL": url._replace(path=f"/{settings.DATABASES['default']['NAME']}").geturl(),
        "STN_REDIS_URL": stack.services.redis_url,
        "STN_ENCRYPTION_KEY": os.environ["STN_ENCRYPTION_KEY"],
        "STN_DATA_DIR": str(tmp_path),
    }


def test_help_names_every_command_and_imports_neither_django_nor_pydantic() -> None:
    code = (
        "import sys; from station.cli.main import main; assert main(['--help']) == 0; "
        "print(sorted({'django', 'pydantic', 'celery', 'redis', 'litellm', 'rich'}"
        " & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    *shown, imported = done.stdout.splitlines()
    assert imported == "[]"
    words = {line.split()[0] for line in shown if line.startswith("  ")}
    assert words >= {*SUMMARIES, "config", "up", "demo", "server", "web", "worker", "keeper",
                     "ssh", "migrate"}  # fmt: skip


def test_the_summaries_of_the_operator_commands_are_what_the_apps_say() -> None:
    commands = discovered().root.commands
    assert {name: command.help for name, command in commands.items()} == SUMMARIES


def test_the_version_is_told() -> None:
    assert station("--version").stdout.startswith("station 0.")


def test_without_a_configuration_it_says_what_to_set_or_to_run() -> None:
    done = station("run", "list")
    assert (done.returncode, done.stdout) == (1, "")
    for words in ("STN_DATABASE_URL", "STN_ENCRYPTION_KEY", "`station up`"):
        assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_configuration_the_json_error_lists_what_is_missing() -> None:
    error = json.loads(station("run", "list", "--json").stderr)["error"]
    assert error["code"] == "invalid_configuration"
    assert {problem["field"] for problem in error["errors"]} >= {"database.url"}


def test_config_validate_lists_every_problem_and_needs_no_database(tmp_path: Path) -> None:
    file = tmp_path / "station.yaml"
    file.write_text("api: {port: many}\nlog: {level: loud}\n")
    done = station("config", "validate", "--config", str(file))
    assert done.returncode == 1
    for words in ("api.port", "log.level", "database.url"):
        assert words in done.stderr
    shown = json.loads(station("config", "validate", "--config", str(file), "--json").stdout)
    assert shown["valid"] is False
    assert {problem["field"] for problem in shown["problems"]} >= {"api.port", "log.level"}


def test_config_is_valid_and_shown_without_its_secrets() -> None:
    environ = {
        "STN_DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/none",
        "STN_REDIS_URL": "redis://127.0.0.1:1/0",
        "STN_ENCRYPTION_KEY": "ab" * 32,
    }
    assert station("config", "validate", environ=environ).returncode == 0
    for words in (
        ("config", "show"),
        ("config", "show", "--sources"),
        ("config", "show", "--json"),
    ):
        done = station(*words, environ=environ)
        assert done.returncode == 0
        assert "hunter2" not in done.stdout
        assert "abab" not in done.stdout
        assert "127.0.0.1:1/none" in done.stdout
    shown = station("config", "show", "--sources", environ=environ).stdout
    assert "# STN_DATABASE_URL" in shown


def test_the_global_option_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "station.yaml"
    file.write_text("log: {level: loud}\n")
    done = station("--config", "station.yaml", "run", "list", cwd=tmp_path)
    assert done.returncode == 1
    assert "log.level" in done.stderr


def test_a_database_that_is_away_is_said_plainly(configured: dict[str, str]) -> None:
    configured["STN_DATABASE_URL"] = "postgresql://u:hunter2@127.0.0.1:1/none"
    done = station("run", "list", environ=configured)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The database cannot be reached: ")
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_was_not_set_up_names_the_command(configured: dict[str, str]) -> None:
    configured["STN_DATABASE_URL"] = stack.services.database_url
    done = station("run", "list", environ=configured)
    assert done.returncode == 1
    assert "`station migrate`" in done.stderr


@pytest.mark.django_db(transaction=True)
def test_the_operator_submits_and_reads_runs(configured: dict[str, str]) -> None:
    factories.agent(name="helper")
    done = station("agent", "run", "helper", "Do it.", "--json", environ=configured)
    assert (done.returncode, done.stderr) == (0, "")
    run = Run.objects.get()
    assert json.loads(done.stdout)["id"] == run.pk
    assert run.submitted_by.startswith("cli:")
    listed = json.loads(station("run", "list", "--json", environ=configured).stdout)
    assert [each["id"] for each in listed] == [run.pk]


@pytest.mark.django_db(transaction=True)
def test_a_station_up_in_this_folder_is_found(configured: dict[str, str], tmp_path: Path) -> None:
    factories.environment("here")
    folder = tmp_path / ".station"
    folder.mkdir()
    file = folder / "environment"
    file.write_text("".join(f"{name}={value}\n" for name, value in configured.items()))
    file.chmod(0o600)
    done = station("env", "list", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "here" in done.stdout
    file.chmod(0o644)
    done = station("env", "list", cwd=tmp_path)
    assert done.returncode == 1
    assert "chmod 600" in done.stderr


def test_a_reader_that_closed_the_pipe_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "station.cli.main", "--help"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(PATIENCE) == 141


@pytest.mark.django_db
def test_commands_log_into_the_data_folder_alone(configured: dict[str, str]) -> None:
    station("env", "list", environ=configured)
    log = Path(configured["STN_DATA_DIR"]) / "commands.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.parametrize("words", [("server", "--roles", "web,cook"), ("server", "--roles", ",")])
def test_an_unknown_role_is_wrong_usage(words: tuple[str, ...]) -> None:
    done = station(*words)
    assert done.returncode == 2
    assert "--roles" in done.stderr


def test_a_process_without_a_configuration_says_so() -> None:
    for words in (("worker",), ("mcp", "serve")):
        done = station(*words)
        assert (done.returncode, done.stdout) == (1, "")
        assert "STN_DATABASE_URL" in done.stderr
