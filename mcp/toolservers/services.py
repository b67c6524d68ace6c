"""Use cases of tool servers: register, look up, store what was discovered, approve, resolve."""

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from django.db import models, transaction
from django.db.models.functions import Now

from station.accounts.services import references, store, substitution
from station.config import current
from station.core.errors import Conflict, InvalidInput, NotFound
from station.core.principal import Principal, Role
from toolservers.definition import ServerDefinition, ToolList
from toolservers.models import Tool, ToolServer

_MOST_ITEMS = 100
_LONGEST_ITEM = 8192


class ToolServerNotFound(NotFound):
    """There is no such tool server, or it is not visible to you."""

    code = "tool_server_not_found"


def visible(principal: Principal) -> models.QuerySet[ToolServer]:
    """Tool servers of the environments the principal is a member of."""
    rows = ToolServer.objects.select_related("environment")
    return rows if principal.platform_admin else rows.filter(environment_id__in=principal.roles)


def visible_tools(principal: Principal) -> models.QuerySet[Tool]:
    """Tools of the visible servers."""
    rows = Tool.objects.select_related("server__environment")
    return (
        rows
        if principal.platform_admin
        else rows.filter(server__environment_id__in=principal.roles)
    )


def get(
    principal: Principal, reference: int | str, *, environment_id: int | None = None
) -> ToolServer:
    """The tool server with that id or name.

    Raises:
        ToolServerNotFound: none is visible under that reference.
        Conflict: the name exists in several environments and none was chosen.
    """
    rows = visible(principal)
    if environment_id is not None:
        rows = rows.filter(environment_id=environment_id)
    text = str(reference)
    found = list(rows.filter(name=text)[:2])
    if not found and text.isdecimal() and len(text) < 19:
        found = list(rows.filter(pk=int(text)))
    if not found:
        raise ToolServerNotFound(
            f"There is no tool server {text!r} that you may see.",
            fix="`station mcp list` shows them.",
        )
    if len(found) > 1:
        names = ", ".join(server.environment.name for server in found)
        raise Conflict(
            f"Tool server {text!r} exists in several environments ({names}).",
            fix="Choose one with --env, or use the server's id.",
        )
    return found[0]


def add(
    principal: Principal,
    *,
    environment_id: int,
    name: str,
    transport: str,
    command: str = "",
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    url: str = "",
    headers: Mapping[str, str] | None = None,
) -> ToolServer:
    """Register a tool server.

    For admins of the environment; a stdio server runs a command on the worker's host, so it
    takes a platform admin and a command of the operator's allow-list.
    """
    principal.require(Role.ADMIN, environment_id)
    server = ToolServer(
        environment_id=environment_id,
        name=name,
        transport=transport,
        command=command,
        args=_texts("args", args),
        env=_pairs("env", env or {}),
        url=url,
        headers=_pairs("headers", headers or {}),
    )
    _check(principal, server)
    store(server, taken=f"There is a tool server {name!r} in this environment already.")
    server.refresh_from_db()
    return server


def remove(principal: Principal, server: ToolServer) -> None:
    """Forget a tool server and its tools. For admins of its environment."""
    principal.require(Role.ADMIN, server.environment_id)
    server.delete()


def enable(principal: Principal, server: ToolServer, *, enabled: bool) -> ToolServer:
    """Let agents use the server, or not. For operators of its environment."""
    principal.require(Role.OPERATOR, server.environment_id)
    ToolServer.objects.filter(pk=server.pk).update(enabled=enabled)
    server.refresh_from_db()
    return server


def approve(principal: Principal, tool: Tool, *, digest: str | None = None) -> Tool:
    """Vouch for a tool's present definition, so that its annotations count.

    ``digest`` is the definition that was looked at; if the server changed it meanwhile, nothing
    is approved. For admins of its environment.

    Raises:
        Conflict: the definition is no longer the one that was looked at.
    """
    principal.require(Role.ADMIN, tool.server.environment_id)
    seen = digest or tool.digest
    updated = Tool.objects.filter(pk=tool.pk, digest=seen).update(
        approved_digest=seen, approved_by=principal.label[:200]
    )
    if not updated:
        raise Conflict(f"{tool} has changed since you looked.", fix="Look at it again.")
    tool.refresh_from_db()
    return tool


def resolve(server: ToolServer) -> ServerDefinition:
    """The definition with its variables filled in, ready to connect.

    Raises:
        InvalidInput: it refers to a variable that does not exist.
    """
    return resolve_all([server])[0]


def resolve_all(servers: Iterable[ToolServer]) -> list[ServerDefinition]:
    """:func:`resolve` for several servers of one environment, reading its variables once."""
    rows = list(servers)
    names = references(text for server in rows for text in server.texts())
    values = substitution(rows[0].environment_id, names) if rows and names else None

    def fill(server: ToolServer, part: str, text: str) -> str:
        where = f"tool server {server.name!r}, {part}"
        return values.fill(text, where=where) if values else text

    return [
        ServerDefinition(
            server_id=server.pk,
            environment_id=server.environment_id,
            name=server.name,
            transport=server.transport,  # type: ignore[arg-type]  # a check constraint holds it
            command=server.command,
            args=tuple(fill(server, f"args[{i}]", text) for i, text in enumerate(server.args)),
            env={key: fill(server, f"env.{key}", text) for key, text in server.env.items()},
            url=fill(server, "url", server.url),
            headers={k: fill(server, f"headers.{k}", text) for k, text in server.headers.items()},
            request_timeout=current().mcp.request_timeout,
            secrets=values.secrets_in(server.texts()) if values else (),
        )
        for server in rows
    ]


@transaction.atomic
def store_discovery(server: ToolServer, listed: ToolList) -> None:
    """Make the tools' rows say what the server says now; tools it no longer offers stay, marked.

    Several workers may discover at once: the server's row is locked meanwhile. Nothing is
    written about tools that are as they were.
    """
    ToolServer.objects.select_for_update(no_key=True).get(pk=server.pk)
    known = {tool.name: tool for tool in server.tools.all()}
    for spec in listed.tools:
        tool = known.pop(spec.name, None) or Tool(server=server, name=spec.name)
        if tool.digest == spec.digest and tool.available:
            continue
        tool.description = spec.description
        tool.input_schema = dict(spec.input_schema)
        tool.annotations = dict(spec.annotations)
        tool.digest, tool.available = spec.digest, True
        tool.save()
    server.tools.filter(pk__in=[tool.pk for tool in known.values()]).update(available=False)
    ToolServer.objects.filter(pk=server.pk).update(
        discovered_at=Now(), last_error="", left_out=list(listed.left_out)
    )


def store_failure(server: ToolServer, problem: str) -> None:
    """Keep why the server could not be discovered or reached, for people to read."""
    ToolServer.objects.filter(pk=server.pk).update(last_error=problem[:2000])


def _check(principal: Principal, server: ToolServer) -> None:
    if server.transport == ToolServer.Transport.STDIO:
        principal.require_platform_admin()
        if not server.command or server.url:
            raise InvalidInput("command", "is required for stdio, and url must be empty")
        if server.command not in current().mcp.stdio_commands:
            raise InvalidInput(
                "command",
                f"{server.command!r} is not on the operator's allow-list",
                fix="Add it to mcp.stdio_commands in the configuration.",
            )
    elif server.transport in ToolServer.Transport.values:
        if server.command:
            raise InvalidInput("command", f"means nothing for transport {server.transport}")
        parts = urlsplit(server.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput("url", "is not an http(s) URL")
        if parts.username or parts.password:
            raise InvalidInput(
                "url", "holds credentials", fix="Put them into a header as ${secret:NAME}."
            )
    else:
        known = ", ".join(ToolServer.Transport.values)
        raise InvalidInput("transport", f"{server.transport!r} is unknown", fix=f"Use {known}.")


def _texts(where: str, values: Iterable[object]) -> list[str]:
    found = list(values)
    for index, value in enumerate(found):
        if not isinstance(value, str) or len(value) > _LONGEST_ITEM or "\0" in value:
            raise InvalidInput(f"{where}[{index}]", "must be a text without NUL, of 8 KiB at most")
    if len(found) > _MOST_ITEMS:
        raise InvalidInput(where, f"has more than {_MOST_ITEMS} items")
    return [str(value) for value in found]


def _pairs(where: str, values: Mapping[str, str]) -> dict[str, str]:
    for key in values:
        if not key or any(char in key for char in "=\0\r\n"):
            raise InvalidInput(f"{where}.{key}", "is not a valid name")
    return dict(zip(values, _texts(where, values.values()), strict=True))
