"""A small storm, as an operator would start it."""

import json
import os
import subprocess
import sys
from pathlib import Path

_PATIENCE = 240


def test_a_small_storm_breaks_no_promise(service_folder: Path) -> None:
    words = ["drill", "storm", "--runs", "60", "--kills", "6", "--seed", "3", "--json"]
    finished = subprocess.run(
        [sys.executable, "-m", "station.cli.main", *words],
        env={**os.environ, "TMPDIR": str(service_folder)},
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    report = json.loads(finished.stdout)
    assert report["held"]
    assert report["violations"] == []
    assert report["counted"]["statuses"] == {"succeeded": 61}
    assert sum(report["counted"]["kills"].values()) >= 6
    assert list(service_folder.iterdir()) == []
