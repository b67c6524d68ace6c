"""The operator commands: one registry, one way to run them, whatever door they are called from.

An app's ``commands.py`` registers its commands when it is imported::

    group("run", help="Look at runs, follow them, cancel them.")

    @command("run", "list")
    @json_option
    def list_runs(session: Session, *, as_json: bool) -> None:
        \"""The newest runs.\"""

and every door calls :func:`invoke` with its caller's :class:`Session`.
"""

from station.commands.exits import Exit
from station.commands.options import environment_option, json_option
from station.commands.registry import command, group, invoke
from station.commands.rendering import Painted, fields, show_json, table
from station.commands.session import Session

__all__ = [
    "Exit",
    "Painted",
    "Session",
    "command",
    "environment_option",
    "fields",
    "group",
    "invoke",
    "json_option",
    "show_json",
    "table",
]
