"""The operator commands as a door sees them: argv and a session in, text and a code out."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from station.commands import invoke
from station.core.principal import Principal
from tests.unit.commands.seats import Outcome, outcome, seat


@pytest.fixture
def station() -> Callable[..., Outcome]:
    """Runs a command as the host's operator unless told otherwise."""

    def run(
        *argv: str, principal: Principal | None = None, stdin: str | None = None, **options: Any
    ) -> Outcome:
        session = seat(principal=principal, stdin=stdin, **{"host": True, **options})
        return outcome(lambda it: invoke(argv, it), session)

    return run


@pytest.fixture
def parsed(station: Callable[..., Outcome]) -> Callable[..., Any]:
    """The JSON that a command prints with ``--json``; it must succeed without a word besides."""

    def run(*argv: str, **options: Any) -> Any:
        done = station(*argv, "--json", **options)
        assert (done.code, done.err) == (0, "")
        return json.loads(done.out)

    return run
