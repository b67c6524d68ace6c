"""Running one command: parse, call, and turn whatever comes out into text and an exit code."""

import logging
import re
import secrets
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from station.commands.exits import OF_KIND, Exit
from station.commands.session import Session
from station.commands.text import printable, to_json
from station.core import storable
from station.core.errors import InvalidInput, StationError, Unavailable

_log = logging.getLogger(__name__)
_WIDEST_HELP = 100
_JSON = "--json"
_FIELDS = {"env": "environment"}
"""What services call the value of a parameter, where they do not call it like the parameter."""


class Command(click.Command):
    """A command whose help goes to the session's ``stdout``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # click makes its own help option while parsing, which is not safe between threads.
        kwargs["add_help_option"] = False
        super().__init__(*args, **kwargs)
        self.params.append(_help_option())


class Group(click.Group):
    """A group of commands; called alone it shows its help, as wrong usage."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs |= {
            "add_help_option": False,
            "no_args_is_help": False,
            "invoke_without_command": True,
            "callback": _help_without_command,
            "subcommand_metavar": "COMMAND ...",
        }
        super().__init__(*args, **kwargs)
        self.params.append(_help_option())


def _help_option() -> click.Option:
    return click.Option(
        ["--help", "-h"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        help="Show this text.",
        callback=_show_help,
    )


def _show_help(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        session: Session = context.obj
        session.print(context.get_help())
        context.exit(Exit.DONE)


@click.pass_context
def _help_without_command(context: click.Context, /) -> int | None:
    if context.invoked_subcommand is None:
        session: Session = context.obj
        session.print(context.get_help())
        return Exit.USAGE
    return None


def with_session(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """The callback click calls for ``function``, which takes the session first."""

    @click.pass_context
    def call(context: click.Context, /, **parameters: Any) -> int | None:
        try:
            return function(context.obj, **parameters)
        except InvalidInput as error:
            raise _as_typed(error, context.command) from None

    return call


def _as_typed(error: InvalidInput, command: click.Command) -> InvalidInput:
    """``error`` at the option that its field came from: the one whose parameter has its name."""
    parts = re.match(r"([^.\[]*)(.*)", error.field, re.DOTALL)
    assert parts is not None
    for option in command.params:
        if isinstance(option, click.Option) and _FIELDS.get(option.name, option.name) == parts[1]:
            return error.at(f"{max(option.opts, key=len)}{parts[2]}")
    return error


def run(root: click.Group, argv: Sequence[str], session: Session) -> int:
    """Run the command of ``root`` that ``argv`` says. Never raises; see :class:`Exit`."""
    as_json = _wants_json(argv)
    try:
        try:
            code = _call(root, argv, session)
        except StationError as error:
            code = explain(error, session, as_json=as_json)
        except click.UsageError as error:
            code = _explain_usage(error, session, as_json=as_json)
        session.stdout.flush()
        session.stderr.flush()
    except (KeyboardInterrupt, EOFError):
        return Exit.INTERRUPTED
    except BrokenPipeError:
        return Exit.PIPE_CLOSED
    except Exception as error:  # noqa: BLE001 - a bug in one command must not reach its caller
        return _explain_other(error, argv, session, as_json=as_json)
    finally:
        _release_connections()
    return code


def explain(error: StationError, session: Session, *, as_json: bool) -> int:
    """Write an expected failure to ``stderr``, once, with its fix; the exit code it stands for."""
    if as_json:
        _write_json(session, error.code, error.message, error.fix, **error.details())
    else:
        session.note(f"Error: {error.message}")
        if error.fix:
            session.note(error.fix)
    return OF_KIND[error.kind]


def _call(root: click.Group, argv: Sequence[str], session: Session) -> int:
    try:
        with root.make_context(
            root.name,
            list(argv),
            obj=session,
            terminal_width=min(session.width, _WIDEST_HELP),
            color=session.color,
            help_option_names=["--help", "-h"],
        ) as context:
            code = root.invoke(context)
    except click.exceptions.Exit as wanted:
        return wanted.exit_code
    return Exit.DONE if code is None else int(code)


def _wants_json(argv: Sequence[str]) -> bool:
    words = list(argv)
    return _JSON in (words[: words.index("--")] if "--" in words else words)


def _explain_usage(error: click.UsageError, session: Session, *, as_json: bool) -> int:
    context = error.ctx
    message = error.format_message()
    fix = f"`{context.command_path} --help` explains it." if context is not None else ""
    if as_json:
        _write_json(session, "wrong_usage", message, fix)
        return Exit.USAGE
    if context is not None:
        session.note(context.get_usage())
    session.note(f"Error: {message}")
    if fix:
        session.note(fix)
    return Exit.USAGE


def _explain_other(
    error: Exception, argv: Sequence[str], session: Session, *, as_json: bool
) -> int:
    try:
        known = _unstorable(error) or _outage(error)
        if known is not None:
            return explain(known, session, as_json=as_json)
        reference = secrets.token_hex(6)
        _log_bug(error, argv, reference)
        message = f"Station failed internally. This is a bug; its reference is {reference}."
        fix = f"{session.log} has the details under that reference."
        if as_json:
            _write_json(session, "internal_error", message, fix, reference=reference)
        else:
            session.note(f"Error: {message}")
            session.note(fix)
    except (OSError, ValueError):  # the caller has gone, and with it whoever could be told
        return Exit.PIPE_CLOSED
    return Exit.FAILED


def _unstorable(error: Exception) -> StationError | None:
    """What PostgreSQL or its driver could not take, which no service had refused before."""
    module = sys.modules.get("django.db.utils")
    refused = module is not None and isinstance(error, module.DataError)
    no_text = isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed"
    return storable.refused() if refused or no_text else None


def _outage(error: Exception) -> StationError | None:
    """What a database that is away or not set up means to a person; ``None`` for anything else."""
    module = sys.modules.get("django.db.utils")
    if module is None or not isinstance(error, module.DatabaseError | module.InterfaceError):
        return None
    if isinstance(error, module.OperationalError | module.InterfaceError):
        reason = printable(str(error)).strip().splitlines()
        return Unavailable(
            f"The database cannot be reached: {reason[0] if reason else type(error).__name__}",
            fix="Is PostgreSQL running, and is STN_DATABASE_URL right?",
        )
    if type(error.__cause__).__name__ in ("UndefinedTable", "UndefinedColumn"):
        return Unavailable(
            "The database has not been set up for this version of Station.",
            fix="`station migrate` does it.",
        )
    return None


def _log_bug(error: Exception, argv: Sequence[str], reference: str) -> None:
    # Only the command's name: what follows may be a secret.
    words = " ".join(word for word in argv[:2] if word.isidentifier())
    _log.error("command_errored command=%r reference=%s", words, reference, exc_info=error)


def _write_json(session: Session, code: str, message: str, fix: str, **details: Any) -> None:
    body = {"code": code, "message": message, "fix": fix, **details}
    session.stderr.write(to_json({"error": body}) + "\n")


def _release_connections() -> None:
    """Give this thread's database connections back; one in a transaction is its owner's."""
    module, conf = sys.modules.get("django.db"), sys.modules.get("django.conf")
    if module is not None and conf is not None and conf.settings.configured:
        for connection in module.connections.all(initialized_only=True):
            if not connection.in_atomic_block:
                connection.close()
