"""One claimed run, from its claim to the moment this worker lets go of it."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol
from uuid import UUID

import structlog
from django.db import InterfaceError, OperationalError

from runs import journal, metrics, retrying, transitions
from runs.assignment import Assignment, definitions, granted_tools
from runs.catalog import Catalog
from runs.entries import Entry
from runs.errors import LeaseLost
from runs.loop import Finish, Pause, run_agent
from runs.moves import Moved
from runs.ports import (
    ModelAnswer,
    ModelCircuitOpen,
    ModelClient,
    ModelDeadline,
    ModelFailure,
    ModelRequest,
)
from runs.recorder import Recorder, Recording, count
from runs.replay import OpenCall
from runs.states import Status
from runs.toolbox import RunToolbox
from station.core import faults
from station.core.errors import StationError
from station.core.ids import uuid7
from station.observe.metrics import ERRORS
from toolservers.definition import ToolSessions

_log = structlog.get_logger(__name__)
_WAIT_FOR_A_PERSON = 7 * 24 * 3600.0
_TO_END = 1.0
"""Seconds past its deadline that an agent's work has to end by itself."""

Stop = Literal["cancelled", "drained", "lost"]


class Services(Recording, Protocol):
    """What an execution needs of the process that carries it; :class:`runs.host.Host` has it."""

    sessions: ToolSessions
    catalog: Catalog

    @property
    def model(self) -> ModelClient: ...


class Execution:
    """Carries one claim of a run. :meth:`stop` may be called from the loop's thread at any time."""

    def __init__(self, assignment: Assignment, services: Services) -> None:
        self._assignment, self._services = assignment, services
        self._deadline = 0.0
        self._stopped: Stop | None = None
        self._draining = False
        self.claimable_in: float | None = None
        """It put the run back into the queue, where it may be claimed after so many seconds."""
        self._agent: asyncio.Task[Finish | Pause] | None = None
        self._log = _log.bind(
            run_id=assignment.run_id,
            environment=assignment.environment,
            agent=assignment.agent,
            request_id=assignment.request_id,
        )

    @property
    def run_id(self) -> int:
        return self._assignment.run_id

    @property
    def fence(self) -> int:
        return self._assignment.fence

    def stop(self, reason: Stop) -> None:
        """End the agent's work as soon as possible; the first reason counts, but "lost" wins."""
        if self._stopped is None or reason == "lost":
            self._stopped = reason
        if self._agent is not None:
            self._agent.cancel()

    def drain(self) -> None:
        """End the agent's work before it next asks the model, when no tool call is under way."""
        self._draining = True

    async def run(self) -> None:
        """Work until the run has ended, waits, was handed back, or is not ours any more."""
        work = self._assignment
        self._services.publisher.event(work.run_id, work.claimed)
        if work.first:
            metrics.QUEUE_WAIT.observe(work.waited)
        self._log.info("run_started", fence=work.fence, waited=round(work.waited, 3))
        self._agent = asyncio.create_task(self._work(), name=f"run {work.run_id}")
        if self._stopped is not None:
            self._agent.cancel()
        await asyncio.wait({self._agent})
        try:
            await self._conclude_somehow(self._agent)
        except LeaseLost:
            metrics.LEASES_LOST.inc()
            self._log.warning("lease_lost")

    async def _work(self) -> Finish | Pause:
        work, services = self._assignment, self._services
        remaining = max(work.remaining, 0.0)
        self._deadline = time.monotonic() + remaining
        # Models and tools end by the deadline themselves, and can tell what that says of them.
        async with asyncio.timeout(remaining + _TO_END):
            tools = RunToolbox([], services.sessions)
            if work.grants:
                resolved = await services.units.run(lambda: definitions(work))
                await services.catalog.refresh(work.servers, resolved)
                granted = await services.units.run(lambda: granted_tools(work, resolved))
                tools = RunToolbox(granted, services.sessions)
            return await run_agent(
                work.brief,
                model=_UntilDrained(services.model, self._check_drain),
                tools=tools,
                journal=Recorder(work, services, self._deadline),
            )

    def _check_drain(self) -> None:
        if self._draining:
            raise _Drained

    async def _conclude_somehow(self, agent: asyncio.Task[Finish | Pause]) -> None:
        """Store how the agent's work ended; an ending that cannot be stored is a bug's."""
        try:
            await self._conclude(agent)
        except LeaseLost:
            raise
        except Exception as bug:  # noqa: BLE001 - or the run would be repeated, for the same end
            await self._conclude_errored(bug)

    async def _conclude(self, agent: asyncio.Task[Finish | Pause]) -> None:
        """Store how the agent's work ended."""
        if agent.cancelled():
            await self._conclude_stopped()
            return
        match agent.exception():
            case None:
                await self._conclude_done(agent.result())
            case LeaseLost() as error:
                raise error
            case _Drained():
                await self._hand_back("drained")
            case TimeoutError() | ModelDeadline():
                await self._conclude_timed_out()
            case OperationalError() | InterfaceError():
                # There is no database to say anything to; the lease runs out and another worker
                # takes the run up from its journal.
                raise LeaseLost
            case ModelCircuitOpen() as error:
                await self._hand_back(
                    "model_unavailable",
                    delay=error.retry_after or 0.0,
                    uncounted=error.in_vain,
                    details={"problem": str(error)},
                )
            case StationError() as error:
                await self._conclude_failed(error)
            case bug:
                await self._conclude_errored(bug)

    async def _conclude_done(self, result: Finish | Pause) -> None:
        if isinstance(result, Finish):
            await self._finish(Status.SUCCEEDED, result=result)
            return
        if time.monotonic() >= self._deadline:
            await self._conclude_timed_out()  # whatever a person said, it could not go on
            return
        details = {"calls": [_doubtful(call) for call in result.calls]}
        moved = await self._move(
            lambda event_id: transitions.wait(
                self.run_id,
                self._assignment.fence,
                event_id=event_id,
                reason=result.reason,
                details=details,
                expires=_WAIT_FOR_A_PERSON,
            )
        )
        faults.point("after-wait")
        await self._announce(moved, Status.WAITING)

    async def _conclude_timed_out(self) -> None:
        seconds = round(self._assignment.remaining, 1)
        message = f"The run's running time was used up ({seconds:g} s were left to it)."
        await self._finish(Status.TIMED_OUT, error=("timeout", message, ""))

    async def _conclude_failed(self, error: StationError) -> None:
        """Put the run off where its agent's retry policy says so; else it has failed."""
        work, message = self._assignment, str(error)
        retry = retrying.next_retry(work.retry, work.retries, error)
        if retry is not None and time.monotonic() < self._deadline:
            moved = await self._move(
                lambda event_id: transitions.retry_later(
                    work.run_id,
                    work.fence,
                    event_id=event_id,
                    error=(error.code, journal.storable(message)),
                    retry=retry.number,
                    at_most=retry.at_most,
                    delay=retry.delay,
                )
            )
            if moved is not None:
                faults.point("after-put-off")
                self.claimable_in = retry.delay
                await self._announce(moved, Status.QUEUED)
                return
            message = f"{message} {retrying.used_up(work.retries)}"
        await self._finish(Status.FAILED, error=(error.code, message, ""))

    async def _conclude_errored(self, bug: BaseException) -> None:
        reference = secrets.token_hex(6)
        self._log.error("run_errored", reference=reference, exc_info=bug)
        ERRORS.labels("worker").inc()
        message = f"Station failed internally; the log has it under {reference}."
        await self._finish(Status.FAILED, error=("errored", message, reference))

    async def _conclude_stopped(self) -> None:
        match self._stopped:
            case "cancelled":
                await self._finish(Status.CANCELLED)
            case "drained":
                await self._hand_back("drained")
            case _:
                raise LeaseLost

    async def _hand_back(
        self,
        reason: str,
        *,
        delay: float = 0.0,
        uncounted: float = 0.0,
        details: Mapping[str, str] | None = None,
    ) -> None:
        moved = await self._move(
            lambda event_id: transitions.hand_back(
                self.run_id,
                self.fence,
                event_id=event_id,
                reason=reason,
                delay=delay,
                uncounted=uncounted,
                details=details,
            )
        )
        faults.point("after-hand-back")
        self.claimable_in = None if moved is None else delay
        await self._announce(moved, Status.QUEUED)

    async def _finish(
        self,
        target: Status,
        *,
        result: Finish | None = None,
        error: tuple[str, str, str] = ("", "", ""),
    ) -> None:
        work = self._assignment
        before: Sequence[Entry] = (result.last,) if result else ()
        faults.point("before-finish")
        moved = await self._move(
            lambda event_id: transitions.finish(
                work.run_id,
                work.fence,
                target,
                event_id=event_id,
                before=before,
                spent=result.spent if result else None,
                output=journal.storable(result.output) if result else "",
                output_data=result.output_data if result else None,
                error=(error[0], journal.storable(error[1]), error[2]),
            )
        )
        faults.point("after-finish")
        if result and moved:
            count(work.environment, result.last, result.spent)
        await self._announce(moved, target)

    async def _move(self, change: Callable[[UUID], Moved | None]) -> Moved | None:
        """``change(event_id)``, repeated with the same id while there is no database.

        Raises:
            LeaseLost: there is none for so long that the lease runs out; another worker takes the
                run up from its journal.
        """
        event_id = uuid7()
        try:
            return await self._services.units.run(lambda: change(event_id))
        except (OperationalError, InterfaceError):
            raise LeaseLost from None

    async def _announce(self, moved: Moved | None, target: Status) -> None:
        """Tell the world; where the change was refused because of a cancellation, cancel."""
        work = self._assignment
        if moved is None:
            if target is Status.CANCELLED:
                raise LeaseLost
            moved = await self._move(
                lambda event_id: transitions.finish(
                    work.run_id, work.fence, Status.CANCELLED, event_id=event_id
                )
            )
            target = Status.CANCELLED
            if moved is None:
                raise LeaseLost
        self._services.publisher.event(work.run_id, moved.event)
        seconds = (moved.event.at - work.claimed.at).total_seconds()
        metrics.left(work.environment, target, seconds)
        self._log.info("run_left", status=target.value)


class _Drained(Exception):
    """The worker is stopping, and the run is between two steps."""


class _UntilDrained:
    """A :class:`runs.ports.ModelClient` that is not asked any more once the worker is stopping."""

    def __init__(self, model: ModelClient, check: Callable[[], None]) -> None:
        self._model, self._check = model, check

    async def ask(
        self,
        request: ModelRequest,
        *,
        on_delta: Callable[[str], None] | None = None,
        on_retry: Callable[[ModelFailure, float], None] | None = None,
        before_send: Callable[[], None] | None = None,
    ) -> ModelAnswer:
        def check() -> None:
            self._check()
            faults.point("before-request")
            if before_send is not None:
                before_send()

        answer = await self._model.ask(
            request, on_delta=on_delta, on_retry=on_retry, before_send=check
        )
        faults.point("after-request")
        return answer


def _doubtful(call: OpenCall) -> dict[str, object]:
    return {
        "call_id": call.call.id,
        "tool": call.call.name,
        "arguments": call.call.arguments,
        "step": call.step,
        "index": call.index,
    }
