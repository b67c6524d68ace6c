"""The top of ``station``: the host's commands and the operators', loaded on demand."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from station.cli.operators import SUMMARIES
from station.commands.exits import Exit
from station.commands.registry import Registry
from station.commands.running import Command, Group
from station.commands.session import Session

_CONFIG_HELP = "Check and show the configuration."
_ROLES = ("web", "worker", "keeper", "ssh", "mcp")
_LOCAL_FOLDER = ".station"


def root() -> Group:
    """The command tree of the host."""
    return _Root(
        name="station",
        help="Run AI agents as jobs, and look after them.",
        params=[
            click.Option(
                ["--config"],
                metavar="FILE",
                expose_value=False,
                callback=_choose_config,
                help="The configuration file; else STN_CONFIG, else /etc/station/config.yaml.",
            ),
            click.Option(
                ["--version"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_show_version,
                help="Show the version.",
            ),
        ],
    )


class _Root(Group):
    """Knows every command by name and summary, and loads only the one that is called."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for command in _process_commands():
            self.add_command(command)
        for name, summary in {**SUMMARIES, "config": _CONFIG_HELP}.items():
            self.add_command(Group(name=name, help=summary))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "config":
            return _configuration()
        if cmd_name in SUMMARIES:
            return _McpGroup() if cmd_name == "mcp" else _operator_group(cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands in two sections, from their summaries alone."""
        rows = {
            name: (name, command.get_short_help_str(limit=formatter.width))
            for name, command in sorted(self.commands.items())
        }
        operators = [*sorted([*SUMMARIES, "config"])]
        with formatter.section("Operating Station"):
            formatter.write_dl([rows[name] for name in operators])
        with formatter.section("Running Station"):
            formatter.write_dl([row for name, row in rows.items() if name not in operators])


def _operator_group(name: str) -> click.Command | None:
    from station.cli.operators import ready  # noqa: PLC0415

    return ready().root.commands.get(name)


def _configuration() -> click.Command:
    from station.cli import configuration  # noqa: PLC0415 - loads pydantic: 0.3 s

    registry = Registry()
    configuration.register(registry)
    return registry.root.commands["config"]


class _McpGroup(Group):
    """The operator group ``mcp`` with the gateway's two processes, which must start without it."""

    def __init__(self) -> None:
        super().__init__(name="mcp", help=SUMMARIES["mcp"])
        for name, function, text in (
            ("serve", "run_mcp_serve", "The MCP gateway over HTTP, port 3000."),
            ("stdio", "run_mcp_stdio", "The MCP gateway for one local client, over stdio."),
        ):
            self.add_command(_process(name, function, text))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or self._operators().get(cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *self._operators()})

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands:
            self.commands.update(self._operators())
        return super().resolve_command(ctx, args)

    def _operators(self) -> Mapping[str, click.Command]:
        group = _operator_group("mcp")
        return group.commands if isinstance(group, click.Group) else {}


# --- processes ------------------------------------------------------------------------------


def _process_commands() -> list[Command]:
    return [
        _web(),
        _process("worker", "run_worker", "Claim runs and carry them."),
        _process("keeper", "run_keeper", "Recurring jobs: leases, schedules, retention."),
        _process("ssh", "run_ssh", "The SSH gateway, port 2222."),
        _process("migrate", "migrate", "Bring the database up to this version."),
        _server(),
        _local("up", "station.embedded.up", "Station on this machine, with its own PostgreSQL."),
        _local("demo", "station.embedded.demo", "One real run from request to answer, explained."),
    ]


def _process(name: str, function: str, text: str) -> Command:
    """A command that calls a function of ``station.cli.processes``, which sets up what it needs."""

    def call() -> int:
        from station.cli import processes  # noqa: PLC0415
        from station.cli.operators import configuration  # noqa: PLC0415

        configuration()
        return int(getattr(processes, function)() or Exit.DONE)

    return Command(name=name, callback=call, help=text)


def _web() -> Command:
    def call() -> int:
        from station.cli.operators import configuration  # noqa: PLC0415
        from station.cli.web import run_web  # noqa: PLC0415

        return run_web(configuration())

    return Command(name="web", callback=call, help="Web admin and REST API, port 8080.")


def _server() -> Command:
    def call(roles: str) -> int:
        from station.cli.operators import configuration  # noqa: PLC0415
        from station.cli.processes import run_server  # noqa: PLC0415

        configuration()
        chosen = tuple(dict.fromkeys(role.strip() for role in roles.split(",") if role.strip()))
        if unknown := [role for role in chosen if role not in _ROLES]:
            raise click.BadParameter(
                f"there is no role {unknown[0]!r}; there are: {', '.join(_ROLES)}.",
                param_hint="--roles",
            )
        return int(run_server(chosen) or Exit.DONE)

    option = click.Option(
        ["--roles"],
        default=",".join(_ROLES),
        show_default=True,
        help="Which processes, separated by commas.",
    )
    text = "All of Station's processes under one supervisor."
    return Command(name="server", params=[option], callback=call, help=text)


def _local(name: str, module: str, text: str) -> Command:
    def call(folder: str) -> int:
        import importlib  # noqa: PLC0415

        function: Callable[[Path, Session], int] = getattr(importlib.import_module(module), name)
        return function(Path(folder), click.get_current_context().obj)

    option = click.Option(
        ["--data-dir", "folder"],
        default=_LOCAL_FOLDER,
        show_default=True,
        metavar="FOLDER",
        help="Holds its database, keys and logs; made if missing.",
    )
    return Command(name=name, params=[option], callback=call, help=text)


# --- global options -------------------------------------------------------------------------


def _choose_config(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None and not context.resilient_parsing:
        os.environ["STN_CONFIG"] = str(Path(value).absolute())


def _show_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from importlib.metadata import version  # noqa: PLC0415

        session: Session = context.obj
        session.print(f"station {version('station')}")
        context.exit(Exit.DONE)
