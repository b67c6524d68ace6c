"""``station drill``: which drills there are, and running one."""

import json
import time
from collections.abc import Callable, Mapping
from importlib import import_module

from station.commands.session import Session
from station.core.errors import NotFound
from station.embedded.drills.report import Options, Report, Say

Drill = Callable[[Options, Say], Report]
DRILLS: Mapping[str, str] = {
    "bell": "Messages lost, doubled and late, the broker restarted: every run runs once.",
    "caps": "16 claimers never exceed a cap; a full queue starves no other tenant.",
    "crash": "SIGKILL at every commit point: no effect is repeated, no run is lost.",
    "drain": "Rolling restarts under load fail no healthy run.",
    "storm": "Random kills of everything, all the time: no run is lost, no effect repeated.",
    "zombie": "A worker stopped past its lease writes no row and sends no call.",
}


class DrillNotFound(NotFound):
    """There is no such drill."""

    code = "drill_not_found"


def drill(session: Session, name: str, options: Options, *, as_json: bool) -> int:
    """Carry out the drill ``name`` (or ``list`` them); 1 when the promise was broken."""
    if name == "list":
        return _list(session, as_json=as_json)
    if name not in DRILLS:
        raise DrillNotFound(f"There is no drill {name!r}.", fix=f"There are {', '.join(DRILLS)}.")
    carry_out: Drill = getattr(import_module(f"station.embedded.drills.{name}"), name)
    begun = time.monotonic()

    def say(line: str) -> None:
        out = session.stderr if as_json else session.stdout
        out.write(f"[{time.monotonic() - begun:6.1f} s] {line}\n")
        out.flush()

    report = carry_out(options, say)
    if as_json:
        session.print(json.dumps(report.as_json()))
    else:
        session.print("\n".join(report.lines()))
    return 0 if report.held else 1


def _list(session: Session, *, as_json: bool) -> int:
    if as_json:
        session.print(json.dumps([{"name": n, "promise": text} for n, text in DRILLS.items()]))
    else:
        session.print("\n".join(f"{name:<8}{text}" for name, text in DRILLS.items()))
    return 0
