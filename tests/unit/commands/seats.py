"""Sessions whose every stream is a text in memory."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from station.commands.session import Session
from station.core.principal import Principal, system


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


def seat(
    *, principal: Principal | None = None, stdin: str | None = None, **options: Any
) -> Session:
    """A session that reads ``stdin`` and writes to memory."""
    return Session(
        principal=principal or system("cli:tester"),
        stdin=None if stdin is None else io.StringIO(stdin),
        stdout=io.StringIO(),
        stderr=io.StringIO(),
        **options,
    )


def outcome(invoke: Callable[[Session], int], session: Session) -> Outcome:
    """Run ``invoke`` for ``session`` and gather what it wrote."""
    code = invoke(session)
    return Outcome(code=code, out=written(session.stdout), err=written(session.stderr))


def written(stream: object) -> str:
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()
