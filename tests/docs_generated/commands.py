"""docs/cli.md, from the tree of commands."""

import re
from collections.abc import Mapping

import click

from station.cli.root import root
from station.commands.exits import Exit
from tests.docs_generated.text import page, table

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
    parts.append(table(("Code", "Meaning"), [(f"{code.value}", _EXITS[code]) for code in Exit]))
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
    return page(parts)


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
    return table(("Command", "What it does", "Options"), rows)


def _is_argument(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Argument)
