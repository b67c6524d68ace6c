"""``station mcp …``: tool servers and their tools."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import click

from station.accounts.commands.environments import environment_id
from station.commands import (
    Exit,
    Session,
    command,
    environment_option,
    fields,
    group,
    json_option,
    show_json,
    table,
)
from station.commands.options import Assignment
from station.commands.rendering import Painted, paint, yes
from station.commands.text import age, count, duration, iso, one_line
from station.core.errors import Conflict, InvalidInput, NotFound, StationError
from toolservers import inspection, services
from toolservers.definition import ServerReport
from toolservers.errors import ToolServerError
from toolservers.models import Tool, ToolServer

group("mcp", help="Tool servers (MCP) and their tools.")


def _resource(row: ToolServer | Tool) -> dict[str, Any]:
    from toolservers.api import serializers  # noqa: PLC0415 - 0.2 s

    if isinstance(row, Tool):
        return dict(serializers.ToolSerializer(row).data)
    return dict(serializers.ToolServerSerializer(row).data)


def _server(session: Session, name: str, env: str | None) -> ToolServer:
    chosen = None if env is None else environment_id(session, env)
    return services.get(session.principal, name, environment_id=chosen)


def _state(row: ToolServer) -> Painted:
    if not row.enabled:
        return Painted(text="disabled", style="magenta")
    if row.last_error:
        return Painted(text="failing", style="red")
    if row.discovered_at is None:
        return Painted(text="not tried yet", style="yellow")
    return Painted(text="working", style="green")


@command("mcp", "list")
@environment_option()
@json_option
def list_servers(session: Session, *, env: str | None, as_json: bool) -> None:
    """The tool servers."""
    rows = services.visible(session.principal).order_by("environment__name", "name")
    if env is not None:
        rows = rows.filter(environment_id=environment_id(session, env))
    if as_json:
        show_json(session, [_resource(row) for row in rows])
        return
    table(
        session,
        ["ID", "ENVIRONMENT", "NAME", "TRANSPORT", "STATE", "TOOLS", "LOOKED AT", "WHERE"],
        (
            [row.pk, row.environment.name, row.name, row.transport, _state(row),
             sum(tool.available for tool in row.tools.all()), age(row.discovered_at),
             " ".join([row.command, *row.args]) if row.command else row.url]
            for row in rows.prefetch_related("tools")
        ),
        right=["ID", "TOOLS"],
        empty="There is no tool server. `station mcp add` registers one.",
    )  # fmt: skip


@command("mcp", "add")
@click.argument("name")
@click.argument("command_line", nargs=-1, metavar="[-- COMMAND ARG ...]")
@environment_option(required=True)
@click.option("--url", default="", help="Its address, for a server reached over HTTP.")
@click.option("--sse", is_flag=True, help="It speaks the legacy HTTP with server-sent events.")
@click.option(
    "--header",
    "headers",
    type=Assignment(),
    multiple=True,
    help="Sent with every request, NAME=VALUE. May be repeated.",
)
@click.option(
    "--environ",
    "environ",
    type=Assignment(),
    multiple=True,
    help="A variable of the command's process, NAME=VALUE. May be repeated.",
)
@json_option
def add_server(
    session: Session,
    *,
    name: str,
    command_line: tuple[str, ...],
    env: str,
    url: str,
    sse: bool,
    headers: tuple[tuple[str, str], ...],
    environ: tuple[tuple[str, str], ...],
    as_json: bool,
) -> None:
    """Register a tool server, and look at once which tools it has.

    Give --url, or after -- a command that speaks MCP over stdio. Write ${secret:NAME} and
    ${var:NAME} for variables of the environment. A server that does not answer yet stays
    registered; `station mcp test` tries it again.
    """
    if bool(url) == bool(command_line):
        raise click.UsageError("Give either --url, or a command after --.")
    if sse and not url:
        raise click.UsageError("--sse goes with --url.")
    row = services.add(
        session.principal,
        environment_id=environment_id(session, env),
        name=name,
        transport="stdio" if command_line else "sse" if sse else "http",
        command=command_line[0] if command_line else "",
        args=command_line[1:],
        env=dict(environ),
        url=url,
        headers=dict(headers),
    )
    problem: StationError | None = None
    try:
        tools = list(inspection.discover(session.principal, row))
    except StationError as error:
        problem, tools = error, []
    row.refresh_from_db()
    if as_json:
        show_json(session, _resource(row))
    else:
        found = "" if problem else f", with {count(len(tools), 'tool')}"
        session.print(f"Tool server {row.name} is registered in {row.environment.name}{found}.")
        _tell_left_out(session, row.name, row.left_out)
    if problem:
        session.note(f"Its tools could not be looked at: {problem}")
        session.note(f"`station mcp test {row.name} --env {row.environment.name}` tries again.")


@command("mcp", "remove")
@click.argument("name")
@environment_option()
def remove_server(session: Session, *, name: str, env: str | None) -> None:
    """Forget a tool server and its tools."""
    row = _server(session, name, env)
    services.remove(session.principal, row)
    session.print(f"Tool server {row.name} is removed from {row.environment.name}.")


@command("mcp", "enable")
@click.argument("name")
@environment_option()
@json_option
def enable_server(session: Session, *, name: str, env: str | None, as_json: bool) -> None:
    """Let agents use a tool server."""
    _switch(session, name, env, enabled=True, as_json=as_json)


@command("mcp", "disable")
@click.argument("name")
@environment_option()
@json_option
def disable_server(session: Session, *, name: str, env: str | None, as_json: bool) -> None:
    """Keep agents from using a tool server."""
    _switch(session, name, env, enabled=False, as_json=as_json)


def _switch(session: Session, name: str, env: str | None, *, enabled: bool, as_json: bool) -> None:
    row = services.enable(session.principal, _server(session, name, env), enabled=enabled)
    if as_json:
        show_json(session, _resource(row))
    else:
        session.print(f"Tool server {row.name} is {'enabled' if enabled else 'disabled'}.")


@command("mcp", "tools")
@click.argument("name", required=False)
@environment_option()
@json_option
def list_tools(session: Session, *, name: str | None, env: str | None, as_json: bool) -> None:
    """The tools of one tool server, or of all."""
    servers = services.visible(session.principal)
    if name is not None:
        servers = servers.filter(pk=_server(session, name, env).pk)
    elif env is not None:
        servers = servers.filter(environment_id=environment_id(session, env))
    rows = services.visible_tools(session.principal).filter(server__in=servers)
    rows = rows.order_by("server__environment__name", "server__name", "name")
    if as_json:
        show_json(session, [_resource(row) for row in rows])
        return
    table(
        session,
        ["TOOL", "ENVIRONMENT", "OFFERED", "APPROVED", "SAYS IT IS", "DESCRIPTION"],
        (
            [f"{row.server.name}/{row.name}", row.server.environment.name, yes(row.available),
             yes(row.approved), _claims(row), one_line(row.description, 80)]
            for row in rows
        ),
        empty="No tool is known. `station mcp test NAME` looks for them.",
    )  # fmt: skip
    for server in servers.exclude(left_out=[]).order_by("environment__name", "name"):
        _tell_left_out(session, server.name, server.left_out)


def _claims(row: Tool) -> str:
    claims = {
        "readOnlyHint": "read-only",
        "idempotentHint": "idempotent",
        "destructiveHint": "destructive",
    }
    return ", ".join(text for hint, text in claims.items() if row.annotations.get(hint) is True)


@command("mcp", "approve")
@click.argument("tool", metavar="SERVER/TOOL")
@environment_option()
@click.option("--digest", help="Approve only if the definition is still this one.")
@json_option
def approve_tool(
    session: Session, *, tool: str, env: str | None, digest: str | None, as_json: bool
) -> None:
    """Vouch for a tool's present definition.

    From then on what it says of itself (read-only, idempotent) counts, until it changes its
    definition. The definition is shown with its digest; --digest makes sure that what you
    looked at is what you approve.
    """
    row = services.approve(session.principal, _tool(session, tool, env), digest=digest)
    if as_json:
        show_json(session, _resource(row))
        return
    fields(
        session,
        [
            ("tool", str(row)),
            ("says it is", _claims(row) or "nothing that counts"),
            ("description", one_line(row.description)),
            ("digest", row.digest),
        ],
    )
    session.print(f"{row} is approved.")


def _tool(session: Session, reference: str, env: str | None) -> Tool:
    rows = services.visible_tools(session.principal)
    server, separator, name = reference.partition("/")
    if separator:
        rows = rows.filter(server=_server(session, server, env), name=name)
    elif env is not None:
        rows = rows.filter(server__environment_id=environment_id(session, env), name=reference)
    else:
        rows = rows.filter(name=reference)
    found = list(rows[:2])
    if not found:
        raise NotFound(
            f"There is no tool {reference!r} that you may see.",
            fix="`station mcp tools` shows them.",
        )
    if len(found) > 1:
        raise Conflict(
            f"Several tool servers have a tool {reference!r}.",
            fix="Write SERVER/TOOL, and choose the environment with --env.",
        )
    return found[0]


@command("mcp", "test")
@click.argument("name")
@environment_option()
@json_option
def test_server(session: Session, *, name: str, env: str | None, as_json: bool) -> int:
    """Connect to a tool server and list its tools.

    Exits 1 with the reason if that fails. What it finds is stored: the tools that agents may be
    granted.
    """
    row = _server(session, name, env)
    try:
        report = inspection.test(session.principal, row)
    except (ToolServerError, InvalidInput) as error:
        services.store_failure(row, str(error))
        _tell_failure(session, row, error, as_json=as_json)
        return Exit.FAILED
    services.store_discovery(row, report.listed)
    _tell_report(session, row, report, as_json=as_json)
    return Exit.DONE


def _tell_failure(session: Session, row: ToolServer, error: StationError, *, as_json: bool) -> None:
    if as_json:
        from toolservers.api.serializers import ToolServerTestSerializer  # noqa: PLC0415

        answer = {"ok": False, "report": None, "failure": error}
        show_json(session, ToolServerTestSerializer(answer).data)
        return
    session.note(f"Error: {error}")
    if row.transport == ToolServer.Transport.STDIO:
        session.note(f"`station mcp logs {row.name}` shows what it wrote to standard error.")


def _tell_report(session: Session, row: ToolServer, report: ServerReport, *, as_json: bool) -> None:
    if as_json:
        from toolservers.api.serializers import ToolServerTestSerializer  # noqa: PLC0415

        answer = {"ok": True, "report": report, "failure": None}
        show_json(session, ToolServerTestSerializer(answer).data)
        return
    fields(
        session,
        [
            ("server", f"{row.name} in {row.environment.name}"),
            ("is", f"{report.server_name} {report.server_version}".strip()),
            ("protocol", report.protocol_version),
            ("connected in", duration(report.connect_seconds)),
            ("latency", duration(report.latency)),
            ("tools", len(report.listed.tools)),
        ],
    )
    for tool in report.listed.tools:
        session.print(f"  {tool.name}  {one_line(tool.description, 100)}".rstrip())
    _tell_left_out(session, row.name, report.listed.left_out)


def _tell_left_out(session: Session, server: str, left_out: Iterable[str]) -> None:
    for line in left_out:
        session.note(f"Left out of tool server {server}: {line}.")


@command("mcp", "logs")
@click.argument("name")
@environment_option()
@click.option(
    "--lines", "-n", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many."
)
@json_option
def show_logs(session: Session, *, name: str, env: str | None, lines: int, as_json: bool) -> None:
    """What a stdio tool server wrote to standard error, on any host."""
    row = _server(session, name, env)
    found = inspection.stderr(row, lines=lines)
    if as_json:
        show_json(session, [{"at": line.at, "line": line.line} for line in found])
        return
    if not found:
        session.note(f"Tool server {row.name} has written nothing to standard error lately.")
    for line in found:
        at = iso(datetime.fromtimestamp(round(line.at, 3), UTC))
        session.stdout.write(f"{paint(session, at, 'dim')}  {one_line(line.line)}\n")
