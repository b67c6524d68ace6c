"""docs/configuration.md, from the schema of the configuration."""

import inspect
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator

from station.config import values
from station.config.quantities import format_size, parse_duration, parse_size, parse_whole_number
from station.config.schema import LEAVES, SECTIONS, Config, Section
from station.config.variables import BY_PATH
from tests.docs_generated.text import page, table

WITHOUT_EFFECT = frozenset({
    "database.replica_url",
    "api.rate_limit.requests_per_minute", "api.rate_limit.burst",
    "security.max_concurrent_sessions",
    "telemetry.enabled", "telemetry.posthog.api_key", "telemetry.posthog.host",
})  # fmt: skip
"""Keys that are checked, and that no code reads yet."""

_OF_VALIDATOR: Mapping[Callable[..., Any], str] = {
    get_args(alias)[1].func: words
    for alias, words in (
        (values.PostgresUrl, "`postgresql://` URL"),
        (values.RedisUrl, "`redis://` URL"),
        (values.HttpUrl, "http(s) URL"),
        (values.Origin, "origin"),
        (values.AllowedHost, "host name"),
        (values.BindHost, "address"),
        (values.Command, "command"),
        (values.EnvironmentName, "variable name"),
        (values.EncryptionKey, "32 bytes, hex or base64"),
        (values.Provider, "provider name"),
        (values.ModelName, "model name"),
        (values.FilePath, "path"),
    )
}
_INTRODUCTION = """\
# Configuration

Station reads one YAML file and the environment. A variable wins over the file, and the file over
the default. The file is the one that `--config` names, else the one that `STN_CONFIG` names, else
`/etc/station/config.yaml` if it exists.

A key that Station does not know, a wrong type, a value out of range or a missing variable stops
the process at boot. All problems are listed at once, each with its path and place, and no message
quotes a value. `station config validate` checks without starting anything;
`station config show --sources` shows what is in effect and where each value comes from, with
secrets masked.

In the file:

- `${VAR}` is replaced by the variable, `${VAR:default}` by the default where the variable is unset
  or empty, and `$${` by a literal `${`. What is put in is never read as YAML, nor scanned again.
- A **duration** needs its unit: `250ms`, `30s`, `1h30m`, `7d`.
- A **size** is bytes, or has a binary unit: `65536`, `512KiB`, `1MiB`.
- A **list** is a YAML list, or text with commas.
- A key whose value is empty counts as not written.

A secret can also come from a file: set the variable with `_FILE` behind its name to the path. To
set both is an error. A variable that begins with `STN_` and is not listed here is an error too.

The database, Redis and the encryption key are required; everything else has a default. These keys
are checked but have no effect in this version:

{without}
"""


def configuration_page() -> str:
    """docs/configuration.md."""
    without = "\n".join(f"- `{path}`" for path in LEAVES if path in WITHOUT_EFFECT)
    parts = [_INTRODUCTION.replace("{without}", without)]
    defaults = _defaults()
    for section in ["", *sorted(SECTIONS - {""}, key=_order)]:
        leaves = [path for path in LEAVES if path.rpartition(".")[0] == section]
        if not leaves:
            continue
        about = (inspect.getdoc(_model(section)) or "") if section else "Keys at the top."
        parts.append(f"## {f'`{section}`' if section else 'Top level'}\n\n{about}\n")
        parts.append(
            table(
                ("Key", "Variable", "Type", "Default", "Meaning"),
                [
                    (
                        f"`{path.rpartition('.')[2]}`",
                        _variable(path),
                        _type(path),
                        defaults[path],
                        LEAVES[path].description or "",
                    )
                    for path in leaves
                ],
            )
        )
    return page(parts)


def _order(section: str) -> int:
    return next(i for i, path in enumerate(LEAVES) if path.startswith(f"{section}."))


def _model(section: str) -> type[Section]:
    model: Any = Config
    for name in section.split("."):
        model = model.model_fields[name].annotation
    return model  # type: ignore[no-any-return]


def _variable(path: str) -> str:
    variable = BY_PATH.get(path)
    if variable is None:
        return ""
    return f"`{variable.name}`" + (" (or `_FILE`)" if variable.file_name else "")


def _defaults() -> dict[str, str]:
    """The default of each key as people write it in the file."""
    given: dict[str, Any] = {name: {} for name in SECTIONS if name and "." not in name}
    given["api"], given["telemetry"] = {"rate_limit": {}}, {"posthog": {}}
    given["database"] = {"url": "postgresql://user@localhost/station"}
    given["redis"] = {"url": "redis://localhost"}
    given["security"] = {"encryption_key": "00" * 32}
    tree = Config.model_validate(given).model_dump(mode="json")
    shown = {}
    for path, field in LEAVES.items():
        value: Any = tree
        for name in path.split("."):
            value = value[name]
        if field.is_required():
            shown[path] = "**required**"
        elif value is None:
            shown[path] = "not set"
        elif isinstance(value, list):
            shown[path] = ", ".join(f"`{item}`" for item in value) or "none"
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            shown[path] = f"`{text}`"
    return shown


def _type(path: str) -> str:
    annotation, marks = _unwrapped(LEAVES[path].annotation)
    marks = [*LEAVES[path].metadata, *marks]
    if get_origin(annotation) is tuple:
        item, inner = _unwrapped(get_args(annotation)[0])
        return f"list of: {_word(item, inner)}"
    return _word(annotation, marks)


def _unwrapped(annotation: Any) -> tuple[Any, list[Any]]:
    """A type without ``| None`` and ``Annotated``, and the marks that were on it."""
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(a for a in get_args(annotation) if a is not type(None))
    if hasattr(annotation, "__metadata__"):
        return annotation.__origin__, list(annotation.__metadata__)
    return annotation, []


def _limits(marks: list[Any]) -> tuple[Any, Any]:
    least = next((mark.ge for mark in marks if isinstance(mark, Ge)), None)
    return least, next((mark.le for mark in marks if isinstance(mark, Le)), None)


def _word(annotation: Any, marks: list[Any]) -> str:
    functions = [m.func for m in marks if isinstance(m, AfterValidator | BeforeValidator)]
    least, most = _limits(marks)
    named = [_OF_VALIDATOR[function] for function in functions if function in _OF_VALIDATOR]
    if named:
        return named[0]
    if parse_duration in functions:
        limits = next(inspect.getclosurevars(f).nonlocals for f in functions if f.__closure__)
        return f"duration, {limits['low']} to {limits['high']}"
    if parse_size in functions or parse_whole_number in functions:
        shown = ("size", format_size) if parse_size in functions else ("number", str)
        return f"{shown[0]}, {shown[1](least)} to {shown[1](most)}"
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    return "`true`, `false`" if annotation is bool else "text"
