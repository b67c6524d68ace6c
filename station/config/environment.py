"""Reads the ``STN_*`` variables, and the files that their ``_FILE`` variants name."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from station.config.problems import Problem
from station.config.variables import FILE_VARIABLE, PREFIX, VARIABLES, Variable

_MOST_BYTES = 65_536


@dataclass(frozen=True, kw_only=True)
class Given:
    """A value as it was written, and where."""

    value: object
    source: str


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What the environment says."""

    given: Mapping[str, Given]
    """By key."""
    variables: Mapping[str, str]
    """What ``${VAR}`` in the file may refer to: every variable, secrets from files included."""
    problems: tuple[Problem, ...]


def read_environment(environ: Mapping[str, str]) -> Environment:
    """Read the variables of the table; an empty variable counts as unset."""
    present = {name: value for name, value in environ.items() if value}
    given: dict[str, Given] = {}
    problems = [_unknown(name) for name in sorted(environ) if not _is_known(name)]
    for variable in VARIABLES:
        file_name = variable.file_name
        if file_name is None or file_name not in present:
            if variable.name in present:
                given[variable.path] = Given(value=present[variable.name], source=variable.name)
            continue
        if variable.name in present:
            problem = f"{variable.name} and {file_name} are both set"
            problems.append(_problem(variable, file_name, problem, "Keep one of them."))
            continue
        path = present[file_name]
        try:
            value = _read_secret(Path(path))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            problem = f"cannot be read from {path}: {(reason or 'failed').lower()}"
            fix = "The file must hold the value alone and be readable by Station."
            problems.append(_problem(variable, file_name, problem, fix))
            continue
        present[variable.name] = value
        given[variable.path] = Given(value=value, source=file_name)
    return Environment(given=given, variables=present, problems=tuple(problems))


def _read_secret(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"it is larger than {_MOST_BYTES} bytes")
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        text = None
    if text is None:
        raise ValueError("it is not UTF-8 text")
    if not text:
        raise ValueError("it is empty")
    return text


def _problem(variable: Variable, source: str, problem: str, fix: str) -> Problem:
    return Problem(path=variable.path, source=source, problem=problem, fix=fix)


_KNOWN = frozenset(
    [FILE_VARIABLE, *(name for v in VARIABLES for name in (v.name, v.file_name) if name)]
)


def _is_known(name: str) -> bool:
    return not name.startswith(PREFIX) or name in _KNOWN


def _unknown(name: str) -> Problem:
    nearest = get_close_matches(name, sorted(_KNOWN), n=1)
    fix = f"Did you mean {nearest[0]}?" if nearest else f"{PREFIX}* is reserved; remove it."
    return Problem(path=name, source="environment", problem="is not a variable of Station", fix=fix)
