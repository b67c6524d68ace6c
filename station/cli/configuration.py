"""``station config …``: works without a database, and with a configuration that is broken."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from station.cli.checkout import adopt
from station.cli.operators import configuration
from station.commands import Exit, Session, json_option, show_json
from station.commands.registry import Registry
from station.config import ConfigError, load, redacted

HELP = "Check and show the configuration."


def register(registry: Registry) -> None:
    """Add the commands."""
    registry.group("config", help=HELP)
    registry.command("config", "validate")(validate)
    registry.command("config", "show")(show)


_config_option = click.option(
    "--config", "path", metavar="FILE", help="The file, instead of the one that would be used."
)


@_config_option
@json_option
def validate(session: Session, *, path: str | None, as_json: bool) -> int:
    """Check the configuration; list everything that is wrong with it. Needs no database."""
    problems: list[dict[str, str]] = []
    try:
        _adopted(path)
    except ConfigError as error:
        problems = error.details()["errors"]
        told = error
    if as_json:
        show_json(session, {"valid": not problems, "problems": problems})
    elif problems:
        session.note(f"Error: {told.message}")
    else:
        session.print("The configuration is valid.")
    return Exit.FAILED if problems else Exit.DONE


@_config_option
@click.option("--sources", is_flag=True, help="Say where each value comes from.")
@json_option
def show(session: Session, *, path: str | None, sources: bool, as_json: bool) -> None:
    """The configuration in effect, without its secrets."""
    shown = redacted(configuration(path), with_sources=sources)
    if as_json:
        show_json(session, shown)
        return
    if sources:
        lines = [(key, _yaml(leaf["value"]), leaf["source"]) for key, leaf in _leaves(shown)]
        width = max(len(f"{key}: {value}") for key, value, _ in lines)
        for key, value, source in lines:
            session.print(f"{f'{key}: {value}':<{min(width, 60)}}  # {source}")
        return
    session.print(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True).rstrip())


def _adopted(path: str | None) -> None:
    """Load what `show` would load. Raises :class:`ConfigError`."""
    if path is not None:
        load(path)
        return
    adopt(Path.cwd(), os.environ)
    load()


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value.keys() == {"value", "source"}:
            yield f"{path}{name}", value
        elif isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")


def _yaml(value: object) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
    )
