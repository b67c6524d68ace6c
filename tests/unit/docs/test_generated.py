"""The generated pages of docs/ say what the code says."""

import re
from pathlib import Path

import pytest

from tests.docs_generated import LABELS, PACKAGES, ROOT, WITHOUT_EFFECT, metrics, pages


@pytest.mark.parametrize("path", ["docs/configuration.md", "docs/metrics.md", "docs/cli.md"])
def test_the_committed_page_is_the_generated_one(path: str) -> None:
    assert (ROOT / path).read_text() == pages()[path], "run `python -m tests.docs_generated`"


def test_every_label_has_a_meaning_and_no_other_has() -> None:
    assert {name for metric in metrics() for name in metric.labels} == set(LABELS)


def test_keys_said_to_have_no_effect_are_read_nowhere() -> None:
    words = {path.rpartition(".")[2] for path in WITHOUT_EFFECT} - {"enabled", "api_key", "host"}
    reads = re.compile(rf"\.({'|'.join(sorted(words | {'telemetry.enabled', 'posthog'}))})\b")
    readers = {
        (path.relative_to(ROOT).as_posix(), found)
        for path in _sources()
        for found in reads.findall(path.read_text())
    }
    assert readers == set()


def _sources() -> list[Path]:
    return [
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "config" not in path.parts
    ]
