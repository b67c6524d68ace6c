"""What the documents say is so: links lead somewhere, and every name they use exists."""

import configparser
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from runs.entries import Kind
from runs.states import TRANSITIONS
from station.cli.root import root
from station.config.variables import FILE_VARIABLE, VARIABLES
from station.core.faults import POINTS
from station.embedded.drills.command import DRILLS
from tests.docs_generated import metrics

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(p for f in ("docs", "deploy", "k8s") for p in (ROOT / f).rglob("*.md"))]
)
FILES = [
    f"/{path.relative_to(ROOT).as_posix()}"
    for folder in ROOT.iterdir()
    if folder.is_dir() and not folder.name.startswith(".")
    for path in folder.rglob("*")
]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_ARROW = re.compile(r"^\s*(\[\*\]|\w+) --> (\[\*\]|\w+)", re.MULTILINE)
_STATION = re.compile(r"(?:^|[\s/])(?<!-n )(?<!-u )station ((?:station )?[a-z].*)")
_FILE = re.compile(r"[\w.-]+(/[\w.-]+)*/[\w-]+\.(py|md|ya?ml|sh|lock|conf|service)")
_ENDINGS = re.compile(r"_(bucket|sum|count)$")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def quoted(page: Path) -> Iterator[str]:
    """The lines of code blocks and the code spans of a page."""
    text = page.read_text()
    for language, block in _FENCE.findall(text):
        if language != "mermaid":
            yield from block.splitlines()
    yield from _SPAN.findall(_FENCE.sub("", text))


def anchors(page: Path) -> set[str]:
    """The fragments of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_the_state_diagram_has_exactly_the_transitions_of_the_code() -> None:
    blocks = _FENCE.findall((ROOT / "docs" / "architecture.md").read_text())
    diagrams = [block for kind, block in blocks if kind == "mermaid" and "stateDiagram" in block]
    assert len(diagrams) == 1
    drawn = [arrow for arrow in _ARROW.findall(diagrams[0]) if "[*]" not in arrow]
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == {(s.value, t.value) for s, targets in TRANSITIONS.items() for t in targets}
    ends = {source for source, target in _ARROW.findall(diagrams[0]) if target == "[*]"}
    assert ends == {status.value for status, targets in TRANSITIONS.items() if not targets}


def test_the_table_of_layers_is_the_one_that_is_enforced() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / ".importlinter")
    enforced = settings["importlinter:contract:layers"]["layers"].split("\n")
    text = (ROOT / "docs" / "architecture.md").read_text().partition("## The layers")[2]
    rows = re.findall(r"^\| (`[^|]+) \|", text.partition("\n## ")[0], re.MULTILINE)
    told = [{name.strip("` ") for name in row.split(",")} for row in rows]
    assert told == [set(re.findall(r"[\w.]+", line)) for line in enforced if line]


def test_the_journal_page_has_every_kind_and_no_other() -> None:
    heads = re.findall(r"^### `([a-z_.]+)`$", (ROOT / "docs" / "journal.md").read_text(), re.M)
    assert sorted(heads) == sorted(kind.value for kind in Kind)


def test_the_page_of_drills_has_every_drill_every_violation_and_every_point() -> None:
    page = (ROOT / "docs" / "drills.md").read_text()
    rows = {
        name
        for row in re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", row)
    }
    checker = (ROOT / "station" / "embedded" / "drills" / "history.py").read_text()
    violations = set(re.findall(r'name="(\w+)"', checker))
    assert len(violations) > 10
    more = {"not_succeeded", "late_reclaim", "ended_by_itself", "proved_nothing"}
    assert rows == {*DRILLS, *violations, *more, *POINTS}


@every_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    assert broken == []


@every_page
def test_files_that_are_named_exist(page: Path) -> None:
    named = {span for span in quoted(page) if _FILE.fullmatch(span)}
    missing = {name for name in named if not any(file.endswith(f"/{name}") for file in FILES)}
    assert missing <= {"mcp/__init__.py"}  # named because it must not exist


@every_page
def test_commands_that_are_quoted_exist(page: Path) -> None:
    wrong = [
        (words, problem)
        for line in quoted(page)
        if (match := _STATION.search(line)) and (words := match[1])
        if (problem := _problem(words))
    ]
    assert wrong == []


def _problem(line: str) -> str | None:
    """What is wrong with the words behind ``station``; ``None`` if such a command exists."""
    words = [word for word in shlex.split(line, comments=True) if word != "station"]
    command: click.Command = root()
    context = click.Context(command, info_name="station")
    while words and isinstance(command, click.Group):
        word = words.pop(0)
        if not re.fullmatch(r"[a-z][a-z-]*", word):
            break
        found = command.get_command(context, word)
        if found is None:
            return f"there is no {word}"
        command = found
        context = click.Context(command, parent=context, info_name=word)
    known = {opt for p in command.params for opt in p.opts} | {"--help", "-h"}
    for word in words:
        if word in {"|", "--", "&&", ">"}:
            break
        if word.startswith("-") and (name := word.partition("=")[0]) not in known and name != "-":
            return f"{command.name} has no option {name}"
    return None


@every_page
def test_variables_that_are_named_exist(page: Path) -> None:
    known = {FILE_VARIABLE, *(v.name for v in VARIABLES)} | {v.file_name for v in VARIABLES}
    assert set(re.findall(r"STN_[A-Z_]*[A-Z]", page.read_text())) <= known


@every_page
def test_metrics_that_are_named_exist(page: Path) -> None:
    known = {metric.name for metric in metrics()}
    named = {
        name
        for span in quoted(page)
        for name in re.findall(r"\bstation_[a-z]+_[a-z_]+\b", span)
        if not name.startswith("station_tests")
    }
    assert {_ENDINGS.sub("", name) for name in named} <= known | {
        _ENDINGS.sub("", name) for name in known
    }


@every_page
def test_make_targets_that_are_named_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {m[1] for span in quoted(page) if (m := re.match(r"make ([a-z]+)\b", span.strip()))}
    assert named <= targets
