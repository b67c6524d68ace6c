"""The tools of one run: what its agent was granted, as the loop and the model see it."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runs.errors import ToolOutcomeUnknown
from runs.ports import ToolOutcome, ToolSpec
from station.core import faults
from toolservers.definition import ServerDefinition, ToolSessions
from toolservers.errors import ToolServerError

CALL_KEY = "station/call-key"
"""The ``_meta`` key under which a tool server finds the stable key of a call."""
_LONGEST_NAME = 64
_UNSAFE = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True, kw_only=True)
class GrantedTool:
    """A tool the agent may use, and where it is."""

    server: ServerDefinition
    name: str
    description: str
    input_schema: Mapping[str, Any]
    repeatable: bool

    @property
    def model_name(self) -> str:
        """``server__tool``, in the characters and length that model APIs accept.

        A name that had to be changed ends in a piece of its own hash, so that no two collide.
        """
        full = f"{self.server.name}__{self.name}"
        safe = _UNSAFE.sub("_", full)
        if safe == full and len(full) <= _LONGEST_NAME:
            return full
        mark = hashlib.sha256(full.encode()).hexdigest()[:8]
        return f"{safe[: _LONGEST_NAME - 9]}_{mark}"


class RunToolbox:
    """The :class:`runs.ports.Toolbox` of one run, over the process's session pool."""

    def __init__(self, tools: Sequence[GrantedTool], sessions: ToolSessions) -> None:
        self._tools = {tool.model_name: tool for tool in tools}
        self._sessions = sessions
        self._specs = tuple(
            ToolSpec(name=name, description=tool.description, input_schema=tool.input_schema)
            for name, tool in sorted(self._tools.items())
        )

    def specs(self) -> tuple[ToolSpec, ...]:
        return self._specs

    def is_repeatable(self, name: str) -> bool:
        tool = self._tools.get(name)
        return tool is not None and tool.repeatable

    async def call(
        self,
        name: str,
        arguments: dict[str, Any],
        *,
        key: str,
        timeout: float,
        before_send: Callable[[], None] | None = None,
    ) -> ToolOutcome:
        """Call the tool; its failures become results for the model to read.

        That it is gone is one of them: a person may have a call repeated much later.

        Raises:
            ToolOutcomeUnknown: it was sent, nobody knows whether it happened, and it is not a
                tool that may simply be called again.
        """
        tool = self._tools.get(name)
        if tool is None:
            return _error(f"There is no tool {name!r} any more; nothing was sent.")

        def check() -> None:
            faults.point("before-send")
            if before_send is not None:
                before_send()

        try:
            result = await self._sessions.call(
                tool.server,
                tool.name,
                arguments,
                timeout=min(timeout, tool.server.request_timeout),
                repeatable=tool.repeatable,
                meta={CALL_KEY: key},
                before_send=check,
            )
        except ToolServerError as error:
            if error.outcome_unknown and not tool.repeatable:
                raise ToolOutcomeUnknown(str(error)) from error
            return _error(str(error))
        faults.point("after-send")
        return ToolOutcome(
            text=result.text,
            structured=result.structured,
            is_error=result.is_error,
            truncated=result.truncated,
        )


def _error(text: str) -> ToolOutcome:
    return ToolOutcome(text=text, structured=None, is_error=True, truncated=False)
