"""Which operator commands there are."""

import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec

import click

from station.commands import running
from station.commands.session import Session

P = ParamSpec("P")
Function = Callable[Concatenate[Session, P], int | None]
_NAME = "station"


class Registry:
    """A tree of groups and commands, filled while modules are imported, then only read."""

    def __init__(self) -> None:
        self.root = running.Group(name=_NAME, help="Run AI agents as jobs, and look after them.")

    def group(self, *path: str, help: str) -> None:
        """Make a group of commands; making it again only replaces its help.

        The group that contains it must exist.
        """
        parent = self._group(path[:-1])
        known = parent.commands.get(path[-1])
        if isinstance(known, click.Group):
            known.help = help
            return
        parent.add_command(running.Group(name=path[-1], help=help))

    def command(self, *path: str) -> Callable[[Function[P]], Function[P]]:
        """Register the decorated function as the command called ``path``.

        Its options and arguments are click's decorators below this one; its docstring is the help.
        It is called with the session first, and returns an exit code, ``None`` being 0. A command
        of that name, or a missing group, is a mistake (``ValueError``).
        """
        parent = self._group(path[:-1])
        if path[-1] in parent.commands:
            raise ValueError(f"there is a command {' '.join(path)!r} already")

        def register(function: Function[P]) -> Function[P]:
            parameters = reversed(getattr(function, "__click_params__", []))
            parent.add_command(
                running.Command(
                    name=path[-1],
                    params=list(parameters),
                    callback=running.with_session(function),
                    help=inspect.getdoc(function),
                )
            )
            return function

        return register

    def invoke(self, argv: Sequence[str], session: Session) -> int:
        """Run the command that ``argv`` (without the program's name) says; its exit code."""
        return running.run(self.root, argv, session)

    def _group(self, path: Sequence[str]) -> click.Group:
        found: click.Command | None = self.root
        for name in path:
            found = found.commands.get(name) if isinstance(found, click.Group) else None
        if not isinstance(found, click.Group):
            raise ValueError(f"there is no group {' '.join(path)!r}")
        return found


_registry = Registry()
group = _registry.group
command = _registry.command

_discovery = threading.Lock()
_discovered = threading.Event()


def discovered() -> Registry:
    """The registry with the commands of every installed app. Django must be set up."""
    if not _discovered.is_set():
        from django.utils.module_loading import autodiscover_modules  # noqa: PLC0415

        with _discovery:
            autodiscover_modules("commands")
            _discovered.set()
    return _registry


def invoke(argv: Sequence[str], session: Session) -> int:
    """Run an operator command for ``session``; its exit code.

    It never raises, writes to the session's streams only, and may be called from any thread, by
    any number of sessions at once. Database connections of the thread are released at the end.

    Args:
        argv: the words after ``station``, as in ``["run", "list", "--json"]``.
    """
    return discovered().invoke(argv, session)
