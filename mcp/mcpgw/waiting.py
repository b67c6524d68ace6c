"""Waiting for runs to end: by listening to Valkey, with a slow look at the row in case it is deaf.

A waiting call holds neither a thread nor a database connection.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from mcpgw import showing
from mcpgw.showing import Body
from runs.database import Units
from runs.entries import Kind
from runs.hub import Hub, News
from runs.narration import summary
from station.core.principal import Principal

OnStep = Callable[[int, str], Awaitable[None]]
"""Called with a step's number in the journal and a line about it."""
_LOOK = 5.0
_LONGEST_LINE = 200
_LABELS = {
    Kind.CLAIMED: "A worker has started the run",
    Kind.MODEL_ANSWERED: "The model",
    Kind.MODEL_RETRIED: "The model is asked again",
    Kind.TOOL_CALLED: "Calls",
    Kind.TOOL_RETURNED: "Result of",
    Kind.WAITING: "Waits for a person",
    Kind.DECIDED: "A person decided",
    Kind.OUTPUT_REJECTED: "The answer is not in the form asked for",
    Kind.RELEASED: "Goes back to the queue",
    Kind.CANCEL_REQUESTED: "Is being cancelled",
}


class Waiting:
    """Waits for runs, until ``stop`` is called: then every wait ends with the run as it stands."""

    def __init__(self, units: Units, hub: Hub) -> None:
        self._units = units
        self._hub = hub
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End all waits, present and future."""
        self._stopping.set()

    async def until_ended(
        self, principal: Principal, run_id: int | str, seconds: float, on_step: OnStep
    ) -> Body:
        """The run once it has ended, or as it stands after ``seconds``.

        Raises:
            RunNotFound: the principal may not see it.
        """
        view = partial(showing.view, principal, run_id)
        body = await self._units.run(view)
        deadline = time.monotonic() + seconds
        if showing.ended(body) or seconds <= 0:
            return body
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            async with self._hub.follow(body["run_id"]) as news:
                while True:
                    last = stop.done()  # asked first: what is told at a stop is no older than it
                    body = await self._units.run(view)
                    left = deadline - time.monotonic()
                    if showing.ended(body) or left <= 0 or last:
                        return body
                    await self._listen(news, min(left, _LOOK), stop, on_step)
        finally:
            stop.cancel()

    async def _listen(
        self,
        news: News,
        seconds: float,
        stop: asyncio.Future[Any],
        on_step: OnStep,
    ) -> None:
        """Pass steps on until it is time to look at the run again."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            getter = asyncio.ensure_future(news.get())
            try:
                await asyncio.wait(
                    {getter, stop}, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                message = getter.result() if getter.done() else None
            finally:
                getter.cancel()
            if message is None:
                return
            event = json.loads(message)
            if event.get("kind") == Kind.FINISHED:
                return
            if "kind" in event:
                await on_step(event["seq"], _line(event))


def _line(event: dict[str, Any]) -> str:
    label = _LABELS.get(event["kind"], event["kind"])
    about = summary(event, _LONGEST_LINE)
    return f"{label}: {about}" if about else label
