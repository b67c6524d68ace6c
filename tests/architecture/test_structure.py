"""The house keeps its shape."""

import ast
import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"station", "agents", "runs", "toolservers", "mcpgw", "sshgw"}
PACKAGES = [ROOT / name for name in ("station", "agents", "runs", "mcp", "sshgw")]


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted(package.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The top-level names of what a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_import_mcp_gives_the_official_sdk() -> None:
    import mcp

    assert not (ROOT / "mcp" / "__init__.py").exists()
    assert "site-packages" in str(mcp.__file__)
    assert hasattr(mcp, "ClientSession")


def test_no_dependency_brings_a_package_of_our_names() -> None:
    owners = importlib.metadata.packages_distributions()
    assert {name: set(owners.get(name, ["station"])) for name in OURS} == {
        name: {"station"} for name in OURS
    }


def test_only_tasks_import_celery() -> None:
    importers = {
        path.relative_to(ROOT).as_posix()
        for path in sources()
        if imported(path) & {"celery", "kombu"}
    }
    assert importers == {"runs/tasks.py", "station/celery.py"}


def test_the_station_package_is_empty() -> None:
    assert (ROOT / "station" / "__init__.py").read_text() == ""


def test_files_stay_small() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in [*sources(), *sorted((ROOT / "tests").rglob("*.py"))]
        if "migrations" not in path.parts and (lines := len(path.read_text().splitlines())) > 400
    }
    assert long == {}


@pytest.mark.parametrize(
    "lock", sorted((ROOT / "requirements").glob("*.lock")), ids=lambda p: p.name
)
def test_lock_files_carry_names_versions_and_hashes_only(lock: Path) -> None:
    line = re.compile(
        r"[a-z0-9._-]+(\[[a-z0-9,-]+\])?==[\w.!+-]+( ; [^\\]+)? \\"
        r"|    --hash=sha256:[0-9a-f]{64}( \\)?"
    )
    bad = [text for text in lock.read_text().splitlines() if not line.fullmatch(text)]
    assert bad == []
