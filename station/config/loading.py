"""Puts file and environment together, and says everything that is wrong with them at once."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from station.config.document import Unreadable, find_document, read_document
from station.config.environment import Given, read_environment
from station.config.problems import ConfigError, Problem, Refused
from station.config.schema import SECTIONS, Config
from station.config.variables import BY_PATH


def load(path: str | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration: STN_* variables over the file over defaults.

    Args:
        path: the file; else STN_CONFIG names it, else /etc/station/config.yaml if there is one.
        environ: the environment, ``os.environ`` by default.

    Raises:
        ConfigError: with every problem found, none of which quotes a value.
    """
    environment = read_environment(os.environ if environ is None else environ)
    problems = list(environment.problems)
    given = dict(environment.given)
    unset: Mapping[str, tuple[str, str]] = {}
    readable = True
    file = find_document(path, environment.variables)
    if file is not None:
        try:
            document = read_document(file, environment.variables, overridden=given)
        except Unreadable as unreadable:
            problems.append(unreadable.problem)
            readable = False
        else:
            given = {**document.given, **given}
            unset = document.unset
            problems += document.problems
    outcome = _validate(given)
    if isinstance(outcome, Config):
        if not problems:
            sources = {key: value.source for key, value in given.items()}
            outcome._sources = MappingProxyType(sources)
            return outcome
    else:
        told = tuple(problem.path for problem in problems)
        problems += _explain(outcome, given, unset, told, readable=readable)
    raise ConfigError(problems)


def _validate(given: Mapping[str, Given]) -> Config | list[ErrorDetails]:
    """A configuration, or what pydantic says against it.

    Its exception does not leave this function: a traceback of it would hold the values.
    """
    nested: dict[str, Any] = {}
    for section in sorted(SECTIONS - {""}):
        _branch(nested, section.split("."))
    for path, value in given.items():
        *sections, name = path.split(".")
        _branch(nested, sections)[name] = value.value
    try:
        return Config.model_validate(nested)
    except ValidationError as error:
        return error.errors(include_url=False, include_input=False)


def _branch(tree: dict[str, Any], sections: Iterable[str]) -> dict[str, Any]:
    for section in sections:
        tree = tree.setdefault(section, {})
    return tree


def _explain(
    errors: list[ErrorDetails],
    given: Mapping[str, Given],
    unset: Mapping[str, tuple[str, str]],
    told: tuple[str, ...],
    *,
    readable: bool,
) -> Iterator[Problem]:
    for error in errors:
        path = re.sub(r"\.(\d+)", r"[\1]", ".".join(map(str, error["loc"])))
        key = path.partition("[")[0]
        if error["type"] == "default_factory_not_called":
            continue  # the key that the default follows is at fault, and told
        if error["type"] != "missing":
            problem, fix = _words(error)
            source = given[key].source if key in given else ""
            yield Problem(path=path, source=source, problem=problem, fix=fix)
        elif readable and not any(key == t or key.startswith(f"{t}.") for t in told):
            yield _missing(key, unset.get(key))


def _missing(key: str, placeholder: tuple[str, str] | None) -> Problem:
    if placeholder:
        variable, source = placeholder
        problem = f"is required, and the variable {variable} is not set"
        return Problem(path=key, source=source, problem=problem, fix=f"Set {variable}.")
    named = BY_PATH.get(key)
    variants = f"{named.name} or {named.file_name}, or " if named else ""
    fix = f"Set {variants}{key} in the file."
    return Problem(path=key, source="", problem="is required and not set", fix=fix)


_WORDS: Mapping[str, tuple[str, str]] = {
    "string_type": ("must be text", "Put it in quotes."),
    "tuple_type": ("must be a list, or text with commas", ""),
    "bool_parsing": ("must be true or false", ""),
    "bool_type": ("must be true or false", ""),
    "path_type": ("must be a path", ""),
    "too_short": ("must not be empty", ""),
    "literal_error": ("must be one of {expected}", ""),
    "greater_than_equal": ("must be at least {ge}", ""),
    "less_than_equal": ("must be at most {le}", ""),
}


def _words(error: ErrorDetails) -> tuple[str, str]:
    """Problem and fix, in our words: the library's own could quote the value."""
    context = error.get("ctx", {})
    refused = context.get("error")
    if isinstance(refused, Refused):
        return refused.problem, refused.fix
    problem, fix = _WORDS.get(error["type"], (f"is not valid ({error['type']})", ""))
    return problem.format(**context), fix
