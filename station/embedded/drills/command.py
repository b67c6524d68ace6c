"""``station drill``: which drills there are, and running one."""

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import FrameType

from station.commands.session import Session
from station.core.errors import InvalidInput, NotFound
from station.embedded.drills.report import Options, Report, Say

Carry = Callable[[Report, Options, Say], None]
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True)
class Drill:
    """A promise that is put to the test, and the options that its drill uses."""

    promise: str
    uses: frozenset[str] = frozenset()


DRILLS: Mapping[str, Drill] = {
    "bell": Drill(promise="whatever becomes of the messages, every run is carried, and once"),
    "caps": Drill(
        promise="no cap is ever exceeded, and a tenant's full queue starves no other",
        uses=frozenset({"seed"}),
    ),
    "crash": Drill(promise="a SIGKILL at any point repeats no effect and loses no run"),
    "drain": Drill(promise="restarts of workers and of PostgreSQL fail no healthy run"),
    "storm": Drill(
        promise="kills of everything lose no run, end none twice and repeat no effect",
        uses=frozenset({"seed", "runs", "kills"}),
    ),
    "zombie": Drill(
        promise="a worker that was stopped past its lease writes no row and sends no call"
    ),
}


class DrillNotFound(NotFound):
    """There is no such drill."""

    code = "drill_not_found"


class Stopped(KeyboardInterrupt):
    """A signal, its argument, said to stop."""


def drill(session: Session, name: str, options: Options, *, as_json: bool) -> int:
    """Carry out the drill ``name`` (or ``list`` them); 1 when the promise was broken.

    Raises:
        DrillNotFound: there is none of that name.
        InvalidInput: it does not use one of the options.
        DrillFailed: it could not be carried out; with ``as_json`` a report says so, too.
        KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP came; everything was removed first.
    """
    if name != "list" and name not in DRILLS:
        raise DrillNotFound(f"There is no drill {name!r}.", fix=f"There are {', '.join(DRILLS)}.")
    _refuse_idle(name, options)
    if name == "list":
        return _list(session, as_json=as_json)
    carry_out: Carry = getattr(import_module(f"station.embedded.drills.{name}"), name)
    report = Report(drill=name, promise=DRILLS[name].promise)

    def say(line: str) -> None:
        out = session.stderr if as_json else session.stdout
        out.write(f"[{time.monotonic() - report.began:6.1f} s] {line}\n")
        out.flush()

    try:
        with _stoppable():
            carry_out(report, options, say)
    except KeyboardInterrupt as stop:
        with contextlib.suppress(OSError):  # a terminal that hung up
            say(f"stopped by {stop or 'SIGINT'}: what was started has been ended and removed")
            if as_json:
                session.print(json.dumps(report.not_carried_out(stop)))
        raise
    except Exception as error:
        if as_json:
            session.print(json.dumps(report.not_carried_out(error)))
        raise
    if as_json:
        session.print(json.dumps(report.as_json()))
    else:
        session.print("\n".join(report.lines()))
    return 0 if report.held else 1


def _refuse_idle(name: str, options: Options) -> None:
    """Raise for an option that was given and means nothing to the drill."""
    for option, value in vars(options).items():
        uses = [other for other, each in DRILLS.items() if option in each.uses]
        if value is not None and name not in uses:
            raise InvalidInput(
                f"--{option}",
                f"means nothing to {name}",
                fix=f"It goes with {' and '.join(uses)}.",
            )


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """The signals that stop a process end the block by :class:`Stopped`, and only once.

    Whoever is impatient does not interrupt the tidying up. What was ignored stays ignored.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        for each, _ in before:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(signal.Signals(number).name)

    heard = [each for each in _STOPS if signal.getsignal(each) != signal.SIG_IGN]
    before = [(each, signal.signal(each, stop)) for each in heard]
    try:
        yield
    finally:
        for each, handler in before:
            signal.signal(each, handler)


def _list(session: Session, *, as_json: bool) -> int:
    if as_json:
        found = [{"name": name, "promise": each.promise} for name, each in DRILLS.items()]
        session.print(json.dumps(found))
    else:
        session.print("\n".join(f"{name:<8}{each.promise}" for name, each in DRILLS.items()))
    return 0
