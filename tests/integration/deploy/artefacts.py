"""Reads the shipped artefacts the way their own tools do."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from station.config.variables import FILE_VARIABLE, VARIABLES

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = ROOT / "deploy" / "compose"
BASE = ROOT / "k8s" / "base"

STATION_VARIABLES = {FILE_VARIABLE} | {
    name for variable in VARIABLES for name in (variable.name, variable.file_name) if name
}

_PLACEHOLDER = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def documents(path: Path) -> list[Any]:
    """The YAML documents of a file."""
    return list(yaml.safe_load_all(path.read_text()))


def interpolated(value: Any) -> Any:
    """``value`` as Compose reads it with an empty environment: each placeholder's default."""
    if isinstance(value, dict):
        return {key: interpolated(item) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item) for item in value]
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda found: found[2] or "", value)
    return value


def base_objects() -> list[dict[str, Any]]:
    """The objects of the base, in the order of its kustomization."""
    (kustomization,) = documents(BASE / "kustomization.yaml")
    return [found for name in kustomization["resources"] for found in documents(BASE / name)]


def pods() -> dict[str, dict[str, Any]]:
    """The pod specifications of the base, by component."""
    return {
        found["metadata"]["labels"]["component"]: found["spec"]["template"]["spec"]
        for found in base_objects()
        if found["kind"] in ("Deployment", "Job")
    }


def helped(*argv: str) -> subprocess.CompletedProcess[str]:
    """``station ARGV --help``, in a process without any configuration."""
    return subprocess.run(
        [sys.executable, "-m", "station.cli.main", *argv, "--help"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{ROOT / 'mcp'}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
