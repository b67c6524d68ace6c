"""Options that many commands share, and the types of their values."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from station.commands.session import Session
from station.core import strict_json
from station.core.errors import InvalidInput
from station.core.unchanged import UNCHANGED, Unchanged

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """``--json``, for every command that reads: the parameter ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def environment_option(*, required: bool = False, many: bool = False) -> Callable[[F], F]:
    """``--env NAME``: the parameter ``env``, a name or id; with ``many`` a tuple of them."""
    return click.option(
        "--env",
        "-e",
        "env",
        metavar="NAME",
        required=required,
        multiple=many,
        help="The environment, by name or id." + (" May be repeated." if many else ""),
    )


class Duration(click.ParamType[float]):
    """A length of time with its unit (``300s``, ``5m``), in seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        try:
            return _seconds(value)
        except ValueError:
            self.fail(f"{value!r} is no duration; write it like 30s, 5m, 24h.", param, ctx)


def cap_option(function: F) -> F:
    """``--max-running N|none``: the parameter ``max_running``, ``UNCHANGED`` when left out."""
    return click.option(
        "--max-running",
        type=_Cap(),
        default=UNCHANGED,
        metavar="N|none",
        help="Most runs at once; none lifts the cap.",
    )(function)


class _Cap(click.ParamType[int | Unchanged | None]):
    """The most of something at once: a whole number, or ``none`` for no cap."""

    name = "cap"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Unchanged | None:
        if value is UNCHANGED or value == "none":
            return value if value is UNCHANGED else None
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is no cap; write a number, or none.", param, ctx)


class Moment(click.ParamType[datetime]):
    """A point in time: ISO 8601 (UTC unless it says otherwise), or how long ago (``1h``)."""

    name = "time"

    def __init__(self, *, ahead: bool = False) -> None:
        """``ahead``: a duration means that far in the future instead."""
        self._sign = 1 if ahead else -1

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            try:
                return datetime.now(UTC) + self._sign * timedelta(seconds=_seconds(value))
            except (ValueError, OverflowError):
                self.fail(
                    f"{value!r} is no time; write it like 1h or 2026-01-31T12:00:00Z.", param, ctx
                )
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Assignment(click.ParamType[tuple[str, str]]):
    """``NAME=VALUE`` as a pair."""

    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        name, separator, text = value.partition("=")
        if not separator or not name:
            self.fail(f"{value!r} is not of the form NAME=VALUE.", param, ctx)
        return name, text


def _seconds(text: str) -> float:
    from station.config.quantities import parse_duration  # noqa: PLC0415 - loads pydantic: 0.3 s

    return parse_duration(text)


def json_object(session: Session, what: str, text: str) -> dict[str, Any]:
    """A JSON object given as text, or as ``@FILE`` (``@-`` for standard input).

    Raises:
        InvalidInput: naming ``what``.
    """
    if text.startswith("@"):
        text = session.read_file(what, text[1:])
    try:
        value = strict_json.loads(text)
    except ValueError as error:
        raise InvalidInput(what, f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidInput(what, "must be a JSON object, like {}")
    return value
