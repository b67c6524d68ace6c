"""The top of ``station``: the host's commands and the operators', loaded on demand."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from station.cli.operators import SUMMARIES
from station.commands.exits import Exit
from station.commands.registry import Registry
from station.commands.running import Command, Group, with_session
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
        key = click.Option(
            ["--key-file"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Holds the API key to act with; else STATION_API_KEY, else the local operator.",
        )
        stdio = "The MCP gateway for one local client, over stdio."
        self.add_command(_process("stdio", "run_mcp_stdio", stdio, key))
        self.add_command(
            _process("serve", "run_mcp_serve", "The MCP gateway over HTTP, port 3000.")
        )

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
    folder = click.Option(
        ["--data-dir", "folder"],
        default=_LOCAL_FOLDER,
        show_default=True,
        metavar="FOLDER",
        help="Holds its database, keys and logs; made if missing.",
    )
    roles = click.Option(
        ["--roles"],
        default=",".join(_ROLES),
        show_default=True,
        help="Which processes, separated by commas.",
    )
    return [
        _process("web", "run_web", "Web admin and REST API, port 8080."),
        _process("worker", "run_worker", "Claim runs and carry them."),
        _process("keeper", "run_keeper", "Recurring jobs: expired leases, deadlines, lost bells."),
        _process("ssh", "run_ssh", "The SSH gateway, port 2222."),
        _process("migrate", "migrate", "Bring the database up to this version."),
        _host_command("server", _run_server, [roles]),
        _host_command("up", _up, [folder]),
        _host_command("demo", _demo, [folder]),
        _host_command("drill", _drill, _drill_parameters()),
    ]


def _host_command(
    name: str, function: Callable[..., int], parameters: Sequence[click.Parameter] = ()
) -> Command:
    return Command(
        name=name,
        callback=with_session(function),
        params=list(parameters),
        help=function.__doc__,
    )


def _process(name: str, function: str, text: str, *options: click.Parameter) -> Command:
    """A command that calls a function of ``station.cli.processes``, which sets up what it needs."""

    def call(_session: Session, **given: Any) -> int:
        from station.cli import processes  # noqa: PLC0415
        from station.cli.operators import configuration  # noqa: PLC0415

        configuration()
        return int(getattr(processes, function)(**given))

    call.__doc__ = text
    return _host_command(name, call, options)


def _run_server(_session: Session, roles: str) -> int:
    """All of Station's processes under one supervisor."""
    from station.cli.operators import configuration  # noqa: PLC0415
    from station.cli.processes import run_server  # noqa: PLC0415

    chosen = tuple(dict.fromkeys(role.strip() for role in roles.split(",") if role.strip()))
    if unknown := [role for role in chosen if role not in _ROLES]:
        raise click.BadParameter(
            f"there is no role {unknown[0]!r}; there are {', '.join(_ROLES)}.",
            param_hint="--roles",
        )
    if not chosen:
        raise click.BadParameter("names no role.", param_hint="--roles")
    configuration()
    return run_server(chosen)


def _up(session: Session, folder: str) -> int:
    """Station on this machine, with its own PostgreSQL and Valkey."""
    from station.embedded.up import up  # noqa: PLC0415

    return up(Path(folder), session)


def _demo(session: Session, folder: str) -> int:
    """One real run from request to answer, told step by step."""
    from station.embedded.demo import demo  # noqa: PLC0415

    return demo(Path(folder), session)


def _drill_parameters() -> list[click.Parameter]:
    return [
        click.Argument(["name"], metavar="list|NAME"),
        click.Option(["--seed"], type=int, help="Of what is random; 1 unless set. caps and storm."),
        click.Option(["--runs"], type=click.IntRange(1), help="How many runs; storm."),
        click.Option(["--kills"], type=click.IntRange(0), help="How many kills; storm."),
        click.Option(["--json", "as_json"], is_flag=True, help="The result as JSON."),
    ]


def _drill(session: Session, *, name: str, as_json: bool, **options: Any) -> int:
    """Break a throw-away Station on purpose and count whether a promise holds."""
    from station.embedded.drills.command import drill  # noqa: PLC0415
    from station.embedded.drills.report import Options  # noqa: PLC0415

    return drill(session, name, Options(**options), as_json=as_json)


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
