"""Station as an MCP server: who asks for what, whatever the transport."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

import anyio
import structlog
from django.db import DataError, InterfaceError, OperationalError
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)

from mcpgw import calls, catalog, showing
from mcpgw.showing import Body
from mcpgw.waiting import Waiting
from runs.database import Units
from runs.hub import Hub
from station.config import Config
from station.core import storable
from station.core.errors import Kind, StationError, Unavailable
from station.core.ids import uuid7
from station.core.principal import Principal
from station.observe.context import REQUEST_ID, bind_principal, bound
from station.observe.metrics import ERRORS

Context = ServerRequestContext[Any, Any]
Identify = Callable[[Any], Principal]
"""Who sent a request (the transport's own, ``None`` for stdio). May use the ORM."""

INSTRUCTIONS = (
    "Station runs AI agents as jobs. list_agents shows them, run_agent gives one a task, get_run "
    "waits for the result of a run that takes longer, list_runs finds runs, retry_run does one "
    "again. Each agent is also a tool of its own. A run that is in doubt about a tool call waits "
    "for a person: tell them, they decide outside of MCP."
)
_THREADS = 8
_log = structlog.get_logger(__name__)


class Gateway:
    """The tools, for the principals that ``identify`` names."""

    def __init__(self, identify: Identify, units: Units, waiting: Waiting) -> None:
        self._identify = identify
        self._units = units
        self._waiting = waiting

    def server(self) -> "Server[dict[str, Any]]":
        """The SDK's server with this gateway's handlers."""
        return Server(
            "station",
            version=version("station"),
            title="Station",
            instructions=INSTRUCTIONS,
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            # No tool takes arguments from headers; the SDK would list all tools to find out.
            get_tool_input_schema=lambda _name: None,
        )

    async def list_tools(
        self, context: Context, params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        """The fixed tools and one for each agent the principal may run, in pages."""
        cursor = params.cursor if params is not None else None
        if cursor is not None and not (cursor.isdecimal() and len(cursor) < 19):
            raise MCPError(INVALID_PARAMS, "The cursor is not one that tools/list gave.")
        principal = await self._principal(context)
        agents, following = await self._units.run(
            partial(calls.agent_tools, principal, int(cursor or 0))
        )
        tools: list[Tool] = [] if cursor else list(catalog.FIXED.values())
        tools += [catalog.agent_tool(a.environment.name, a.name, a.description) for a in agents]
        return ListToolsResult(
            tools=tools,
            next_cursor=None if following is None else str(following),
            ttl_ms=0,
            cache_scope="private",
        )

    async def call_tool(self, context: Context, params: CallToolRequestParams) -> CallToolResult:
        """Call a tool; what goes wrong is told in its result, as the protocol wants it."""
        request_id = str(uuid7())
        with bound(**{REQUEST_ID: request_id}, tool=params.name[:100]):
            try:
                return await self._call(context, params, request_id)
            except StationError as error:
                return _fault(error)
            except (OperationalError, InterfaceError) as error:
                _log.warning("database_unavailable", problem=str(error).strip())
                return _fault(
                    Unavailable("Station's database cannot be reached.", fix="Try again soon.")
                )
            except DataError:
                return _fault(storable.refused())
            except MCPError:
                raise
            except Exception:  # noqa: BLE001 - a bug in one call must not end the session
                reference = secrets.token_hex(6)
                ERRORS.labels("mcp").inc()
                _log.exception("tool_call_errored", reference=reference)
                return _fault(
                    StationError(
                        f"Station failed internally. The reference is {reference}.",
                        fix="It finds the cause in the MCP gateway's log.",
                    )
                )

    async def _call(
        self, context: Context, params: CallToolRequestParams, request_id: str
    ) -> CallToolResult:
        principal = await self._principal(context)
        bind_principal(principal)
        arguments = params.arguments or {}
        tool = catalog.FIXED.get(params.name)
        if tool is not None:
            catalog.check(tool.input_schema, arguments)
            return await self._fixed(context, principal, tool.name, arguments, request_id)
        agent = await self._units.run(partial(calls.agent_of_tool, principal, params.name))
        if agent is None:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name[:100]}")
        catalog.check(catalog.AGENT_SCHEMA, arguments)
        submitting = partial(calls.submit, principal, agent, arguments, request_id=request_id)
        return await self._carried(context, principal, submitting, arguments)

    async def _fixed(
        self,
        context: Context,
        principal: Principal,
        tool: str,
        arguments: dict[str, Any],
        request_id: str,
    ) -> CallToolResult:
        match tool:
            case "list_agents":
                listing = partial(calls.list_agents, principal, arguments.get("environment"))
                body = await self._units.run(listing)
                lines = [f"{a['environment']}/{a['name']}: {a['description']}"
                         for a in body["agents"]]  # fmt: skip
                return _result("\n".join(lines) or "There are no agents you may see.", body)
            case "list_runs":
                body = await self._units.run(partial(calls.list_runs, principal, arguments))
                return _result(showing.listed(body), body)
            case "get_run":
                seconds = arguments.get("wait_seconds", 0)
                body = await self._wait(context, principal, arguments["run_id"], seconds)
                return _result(showing.told(body), body)
            case "cancel_run":
                body = await self._units.run(calls.Cancellation(principal, arguments["run_id"]))
                return _result(f"Run {body['run_id']} is {_stopping(body)}.", body)
            case "retry_run":
                submitting = partial(calls.retry, principal, arguments, request_id=request_id)
            case _:
                named = (arguments["agent"], arguments.get("environment"))
                agent = await self._units.run(partial(calls.find_agent, principal, *named))
                submitting = partial(
                    calls.submit, principal, agent, arguments, request_id=request_id
                )
        return await self._carried(context, principal, submitting, arguments)

    async def _carried(
        self,
        context: Context,
        principal: Principal,
        submitting: Callable[[], int],
        arguments: dict[str, Any],
    ) -> CallToolResult:
        """What became of the run that ``submitting`` queues, after as long as the caller waits.

        Whatever fails once the run is stored, the answer names it: a client that is told of a
        failure only has the task done twice.
        """
        run_id = await self._units.run(submitting)
        seconds = arguments.get("wait_seconds", catalog.DEFAULT_WAIT)
        try:
            body = await self._wait(context, principal, run_id, seconds)
        except Exception as error:  # noqa: BLE001 - a bug's, too: the run is stored
            if not isinstance(error, StationError | OperationalError | InterfaceError):
                ERRORS.labels("mcp").inc()
            _log.warning("run_unreadable", run_id=run_id, exc_info=error)
            return _result(showing.unread(run_id), {"run_id": run_id, "status": None})
        failed = showing.ended(body) and body["status"] != "succeeded"
        return _result(showing.told(body), body, is_error=failed)

    async def _wait(
        self, context: Context, principal: Principal, run_id: int | str, seconds: float
    ) -> Body:
        async def on_step(number: int, line: str) -> None:
            with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                await context.session.report_progress(float(number), message=line)

        return await self._waiting.until_ended(principal, run_id, seconds, on_step)

    async def _principal(self, context: Context) -> Principal:
        return await self._units.run(partial(self._identify, context.request))


@asynccontextmanager
async def opened(config: Config, identify: Identify) -> AsyncIterator[tuple[Gateway, Waiting]]:
    """A gateway with its database threads and its subscription, which end with the context."""
    units = Units(threads=_THREADS)
    hub = Hub(config.redis.url.get_secret_value())
    waiting = Waiting(units, hub)
    try:
        yield Gateway(identify, units, waiting), waiting
    finally:
        waiting.stop()
        await hub.close()
        units.close()


def _stopping(body: Body) -> str:
    return "cancelled" if showing.ended(body) else "being cancelled"


def _result(text: str, body: Body, *, is_error: bool = False) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=body, is_error=is_error
    )


def _fault(error: StationError) -> CallToolResult:
    body = {"code": error.code, "message": error.message, "fix": error.fix, **error.details()}
    if error.kind is Kind.UNAUTHENTICATED:
        _log.info("credential_refused")
    return _result(str(error), {"error": body}, is_error=True)
