"""Drills as an operator starts them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 300.0


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A drill that has ended: its exit code, its report, what it said, and what it left behind."""

    returncode: int
    report: Mapping[str, Any]
    said: str
    left: list[Path]

    def holds(self) -> Mapping[str, Any]:
        """What it counted, once it is sure that the promise held and nothing is left."""
        assert self.returncode == 0, f"{self.report}\n{self.said}\n{self._journals()}"
        assert (self.report["carried_out"], self.report["held"]) == (True, True)
        assert (self.report["violations"], self.report["kept"]) == ([], None)
        assert self.left == []
        counted: Mapping[str, Any] = self.report["counted"]
        return counted

    def _journals(self) -> str:
        """What it kept of the runs concerned, a line each entry."""
        kept = self.report.get("kept")
        file = Path(kept, "journals.json") if kept else None
        if file is None or not file.exists():
            return "no journals"
        return "\n".join(
            f"{run['run_id']} {each['seq']} {each['at']} {each['kind']} {each['payload']}"[:300]
            for run in json.loads(file.read_text())
            for each in run["journal"]
        )


class Running:
    """``station drill …``, started; temporary files go to ``folder``."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)  # PostgreSQL, as somebody else, passes through it
        self.process = subprocess.Popen(
            [sys.executable, "-m", "station.cli.main", "drill", *words, "--json"],
            env={**os.environ, "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def hear(self, word: str) -> None:
        """Wait until it says the word."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if word in line:
                return
        raise AssertionError(f"it never said {word}")

    def finish(self) -> Finished:
        """Wait for its end."""
        try:
            printed, said = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return Finished(
            returncode=self.process.returncode,
            report=json.loads(printed) if printed else {},
            said=said,
            left=list(self._folder.iterdir()),
        )
