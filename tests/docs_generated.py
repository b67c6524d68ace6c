"""The pages of docs/ that are written from the code: configuration, metrics, commands.

``python -m tests.docs_generated`` writes them; a test compares them with what is committed.
"""

import ast
import inspect
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click
from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator

from station.cli.root import root
from station.commands.exits import Exit
from station.config import values
from station.config.quantities import format_size, parse_duration, parse_size, parse_whole_number
from station.config.schema import LEAVES, SECTIONS, Config, Section
from station.config.variables import BY_PATH, FILE_VARIABLE

ROOT = Path(__file__).parents[1]
PACKAGES = ("station", "agents", "runs", "mcp", "sshgw")
_NOTE = "<!-- Written by `python -m tests.docs_generated`. Change the code, then run it. -->\n\n"


def pages() -> Mapping[str, str]:
    """Path below the root and text of every generated page."""
    return {
        "docs/configuration.md": configuration(),
        "docs/metrics.md": metrics_page(),
        "docs/cli.md": commands_page(),
    }


# --- configuration --------------------------------------------------------------------------

WITHOUT_EFFECT = frozenset({
    "database.replica_url",
    "api.rate_limit.requests_per_minute", "api.rate_limit.burst",
    "security.max_concurrent_sessions",
    "execution_queue.buffer_size",
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


def configuration() -> str:
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
            _table(
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
    return _page(parts)


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


def _word(annotation: Any, marks: list[Any]) -> str:
    functions = [m.func for m in marks if isinstance(m, AfterValidator | BeforeValidator)]
    least = next((mark.ge for mark in marks if isinstance(mark, Ge)), None)
    most = next((mark.le for mark in marks if isinstance(mark, Le)), None)
    for function in functions:
        if function in _OF_VALIDATOR:
            return _OF_VALIDATOR[function]
    if parse_duration in functions:
        limits = next(inspect.getclosurevars(f).nonlocals for f in functions if f.__closure__)
        return f"duration, {limits['low']} to {limits['high']}"
    if parse_size in functions:
        return f"size, {format_size(least)} to {format_size(most)}"  # type: ignore[arg-type]
    if parse_whole_number in functions:
        return f"number, {least} to {most}"
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if annotation is bool:
        return "`true`, `false`"
    return "text"


# --- metrics --------------------------------------------------------------------------------

_FACTORIES = {
    "Counter": "counter",
    "Gauge": "gauge",
    "Histogram": "histogram",
    "CounterMetricFamily": "counter",
    "GaugeMetricFamily": "gauge",
    "HistogramMetricFamily": "histogram",
}
LABELS: Mapping[str, str] = {
    "code": "the HTTP status",
    "component": "`web`, `worker`, `keeper`, `ssh` or `mcp`",
    "environment": "the environment's name",
    "kind": "`input` or `output`",
    "method": "the HTTP method, `OTHER` for unusual ones",
    "model": "the model that answered, with its provider: `openai/gpt-4`",
    "route": "the template of the path (`unmatched` where there is none), never the path itself",
    "server": "the tool server's name",
    "state": "`in_use`, `idle` or `max`",
    "status": "the terminal status: `succeeded`, `failed`, `timed_out` or `cancelled`",
}
_METRICS_INTRODUCTION = """\
# Metrics

`GET /metrics` of the web process answers in Prometheus' text format. It needs no login and names no
secret; let only your Prometheus reach it.

One scrape covers the host: the processes of one `data_dir` write their numbers into files below
`metrics/` in it, and the web process adds them up. Counters of processes that ended stay in the
sums. On Kubernetes every pod has a folder of its own, so the web's `/metrics` covers the web pod
alone.

What is counted in the database is computed at each scrape, within 3 seconds. A part that fails or
is late is missing from that scrape, and `station_errors_total{component="web"}` rises.

A histogram has the usual three: `…_bucket`, `…_sum` and `…_count`. A combination of labels that was
never counted may be absent.
"""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric as the code declares it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


def metrics() -> list[Metric]:
    """Every metric that is declared in the source, by name."""
    found = {metric.name: metric for path in _sources() for metric in _declared(path)}
    return [found[name] for name in sorted(found)]


def _sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def _declared(path: Path) -> Iterator[Metric]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or len(node.args) < 2:
            continue
        kind = _FACTORIES.get(getattr(node.func, "id", getattr(node.func, "attr", "")))
        name, about = (getattr(argument, "value", None) for argument in node.args[:2])
        if kind is None or not isinstance(name, str) or not name.startswith("station_"):
            continue
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        labels = node.args[2] if len(node.args) > 2 else None
        labels = labels or keywords.get("labels") or keywords.get("labelnames")
        names = ast.literal_eval(labels) if labels is not None else ()
        if kind == "counter" and not name.endswith("_total"):
            name += "_total"
        yield Metric(name=name, kind=kind, labels=tuple(names), help=str(about))


def metrics_page() -> str:
    """docs/metrics.md."""
    declared = metrics()
    rows = [
        (f"`{m.name}`", m.kind, ", ".join(f"`{name}`" for name in m.labels), m.help)
        for m in declared
    ]
    labels = sorted({name for metric in declared for name in metric.labels})
    return _page(
        [
            _METRICS_INTRODUCTION,
            _table(("Name", "Type", "Labels", "Meaning"), rows),
            "## Labels\n",
            _table(("Label", "Value"), [(f"`{name}`", LABELS[name]) for name in labels]),
        ]
    )


# --- commands -------------------------------------------------------------------------------

_EXITS: Mapping[Exit, str] = {
    Exit.DONE: "It was done.",
    Exit.FAILED: "It failed.",
    Exit.USAGE: "Wrong usage, or input that is not valid.",
    Exit.NOT_FOUND: "There is no such thing, or you may not see it.",
    Exit.NOT_ALLOWED: "You may not do this, or you are not logged in.",
    Exit.CONFLICT: "It conflicts with the present state.",
    Exit.INTERRUPTED: "Interrupted by Ctrl-C, or the caller went away.",
    Exit.PIPE_CLOSED: "Nobody read the output any more.",
}
_CLI_INTRODUCTION = """\
# Commands

`station --help` lists the commands, and `--help` behind any of them explains it. `make setup` puts
the program at `.venv/bin/station`.

What a command finds goes to standard output, and with `--json` as JSON. An error goes to standard
error, once, and says what to do about it; with `--json` it is a JSON object.

`--config FILE` before the command names the configuration file (see
[configuration](configuration.md)). Where neither a database nor a file is configured, a command
that is called in the folder where `station up` runs (with its default `--data-dir`) uses that
Station.

At the host's shell you are a platform admin. The same operator commands run over SSH, with the
rights of the key's owner:

```sh
ssh -p 2222 alice@host run list --json
```

Names of agents and tool servers are unique within an environment; `--env` (`-e`) chooses one where
a name exists in several.
"""


def commands_page() -> str:
    """docs/cli.md."""
    parts = [_CLI_INTRODUCTION, "## Exit codes\n"]
    parts.append(
        _table(("Code", "Meaning"), [(f"{code.value}", _EXITS[code]) for code in Exit])
    )
    top = root()
    context = click.Context(top, info_name="station")
    single = [(name, command) for name, command in _children(top, context)]
    processes = [c for c in single if not isinstance(c[1], click.Group)]
    parts += ["## Processes, set-up and demo\n", _commands("station", processes, context)]
    for name, group in single:
        if isinstance(group, click.Group):
            inner = click.Context(group, parent=context, info_name=name)
            parts += [f"## `station {name}`\n\n{group.help}\n"]
            parts.append(_commands(f"station {name}", _children(group, inner), inner))
    return _page(parts)


def _children(group: click.Group, context: click.Context) -> list[tuple[str, click.Command]]:
    found = [(name, group.get_command(context, name)) for name in group.list_commands(context)]
    return [(name, command) for name, command in found if command is not None]


def _commands(prefix: str, found: list[tuple[str, click.Command]], context: click.Context) -> str:
    rows = []
    for name, command in found:
        arguments = [p.make_metavar(context) for p in command.params if _is_argument(p)]
        options = [
            f"`{max(p.opts, key=len)}`" for p in command.params if isinstance(p, click.Option)
        ]
        about = re.sub(r"\s+", " ", (command.help or "").split("\n\n")[0]).strip()
        shown = " ".join([prefix, name, *arguments]).replace("|", "\\|")
        rows.append((f"`{shown}`", about, " ".join(o for o in options if o != "`--help`")))
    return _table(("Command", "What it does", "Options"), rows)


def _is_argument(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Argument)


# --- writing --------------------------------------------------------------------------------


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _page(parts: list[str]) -> str:
    return _NOTE + "\n".join(parts)


def main() -> None:
    """Write the pages."""
    with tempfile.TemporaryDirectory() as folder:
        # The commands need a configuration to be loaded; nothing is connected to.
        os.environ |= {
            "STN_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
            "STN_REDIS_URL": "redis://127.0.0.1:1/0",
            "STN_ENCRYPTION_KEY": "00" * 32,
            "STN_DATA_DIR": folder,
        }
        os.environ.pop(FILE_VARIABLE, None)
        for path, text in pages().items():
            (ROOT / path).write_text(text)


if __name__ == "__main__":
    main()
