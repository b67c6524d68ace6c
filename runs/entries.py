"""The entries of a journal. Pure data: the loop writes them, :mod:`runs.journal` stores them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from station.core.ids import uuid7


class Kind(StrEnum):
    """The kinds of journal entries; the payloads are documented in docs/journal.md.

    While processes of two releases run side by side, the older ones read kinds they do not know:
    these become members of their own, equal to none of the others.
    """

    SUBMITTED = "run.submitted"
    CLAIMED = "run.claimed"
    RELEASED = "run.released"
    WAITING = "run.waiting"
    DECIDED = "run.decided"
    CANCEL_REQUESTED = "run.cancel_requested"
    FINISHED = "run.finished"
    MODEL_ANSWERED = "model.answered"
    MODEL_RETRIED = "model.retried"
    TOOL_CALLED = "tool.called"
    TOOL_RETURNED = "tool.returned"
    OUTPUT_REJECTED = "output.rejected"

    @classmethod
    def _missing_(cls, value: object) -> "Kind | None":
        if not isinstance(value, str):
            return None
        unknown = str.__new__(cls, value)
        unknown._name_ = unknown._value_ = value
        return unknown


PROGRESS = frozenset({Kind.MODEL_ANSWERED, Kind.TOOL_RETURNED})
"""Entries that show that a worker survived a step."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An event to be appended. Its id is made here, so that a repeated append is recognised."""

    kind: Kind
    payload: Mapping[str, Any] = field(default_factory=dict)
    id: UUID = field(default_factory=uuid7)


@dataclass(frozen=True, kw_only=True)
class Event:
    """An appended event."""

    seq: int
    kind: Kind
    at: datetime
    payload: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a step adds to the run's totals. Steps are model answers; cost is US dollars."""

    steps: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
