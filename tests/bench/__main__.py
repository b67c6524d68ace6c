"""Run the measurements and print one report: ``python -m tests.bench [--rounds N] [--json]``."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import yaml

from station.embedded.ports import free_port
from tests.bench import dispatch, width
from tests.bench.stage import Stage, until

Figures = dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=_count, default=3, help="medians of that many rounds")
    parser.add_argument("--only", choices=["dispatch", "width", "growth"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report: dict[str, Any] = {"cpus": os.cpu_count(), "rounds": options.rounds}
    parts: dict[str, Callable[[int], dict[str, Any]]] = {
        "dispatch": _dispatch,
        "width": _width,
        "growth": _growth,
    }
    if not options.json:
        _print(f"Station's benchmark: {report['cpus']} CPUs, medians of {options.rounds} rounds")
    for name, part in parts.items():
        if options.only == name:
            report[name] = part(options.rounds)
        elif options.only is None:
            report[name] = _in_a_process_of_its_own(name, options.rounds)
        if name in report and not options.json:
            _print(*_TABLES[name](report[name]))
    if options.json:
        _print(json.dumps(report, indent=1))
    return 0


def _count(text: str) -> int:
    """How many rounds to measure."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rounds; there is at least 1")
    return int(text)


def _in_a_process_of_its_own(name: str, rounds: int) -> Any:
    """Measure one part; each has a stage, and so a broker and a database, of its own."""
    argv = ["-m", "tests.bench", "--only", name, "--rounds", str(rounds), "--json"]
    finished = subprocess.run([sys.executable, *argv], stdout=subprocess.PIPE, check=True)
    return json.loads(finished.stdout)[name]


def _staged(work: Callable[[Stage, str, str], Any]) -> Any:
    """Do ``work`` on a fresh stage with its scripted model and its tool server."""
    with Stage() as stage:
        import django

        import station.celery  # noqa: F401

        django.setup()
        from django.core.management import call_command
        from django.db import connection

        call_command("migrate", verbosity=0)
        script = stage.folder / "scenario.yaml"
        scenarios = [*dispatch.scenario(), *width.scenario()]
        script.write_text(yaml.safe_dump({"scenarios": scenarios}))
        model, tools = free_port(), free_port()
        stage.start("-m", "runs.scripted", "--scenario", str(script), "--port", str(model))
        sink = str(stage.folder / "sink")
        stage.start("-m", "toolservers.testing", "--sink", sink, "--http", str(tools))
        until(lambda: (stage.folder / "log").read_text().count("listening") == 2, "the servers")
        stage.start("-m", "station.cli.main", "keeper")
        try:
            return work(stage, f"http://127.0.0.1:{model}/v1", f"http://127.0.0.1:{tools}/mcp")
        except BaseException:
            sys.stderr.write((stage.folder / "log").read_text()[-4000:])
            raise
        finally:
            connection.close()


def _dispatch(rounds: int) -> dict[str, Any]:
    def work(stage: Stage, model: str, _: str) -> dict[str, Any]:
        from tests.bench import peer

        mine, theirs = [], []
        for number in range(rounds):
            _say(f"dispatch, round {number + 1} of {rounds}")
            mine.append(dispatch.station(stage, model))
            theirs.append(peer.dispatched(stage))
        return {"station": _medians(mine), "celery": _medians(theirs)}

    return _staged(work)  # type: ignore[no-any-return]


def _width(rounds: int) -> dict[str, Any]:
    def work(stage: Stage, model: str, tools: str) -> dict[str, Any]:
        from tests.bench import peer

        mine = []
        for number in range(rounds):
            _say(f"width, round {number + 1} of {rounds}")
            mine.append(width.station(stage, model, tools))
        station = _medians(mine)
        _say("width, bare Celery in the same memory")
        return {
            "station": station,
            "celery": peer.conversed(stage, model, tools, station["peak_mb"]),
        }

    return _staged(work)  # type: ignore[no-any-return]


def _growth(rounds: int) -> dict[str, Any]:
    def work(*_: object) -> dict[str, Any]:
        from tests.bench import growth

        return growth.measure()

    _say("growth")
    return _staged(work)  # type: ignore[no-any-return]


def _medians(rounds: list[Figures]) -> Figures:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def _say(line: str) -> None:
    sys.stderr.write(f"==> {line}\n")
    sys.stderr.flush()


def _print(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _beside(name: str, part: dict[str, Figures]) -> list[str]:
    """Station's figures and the peer's, one a line."""
    lines = ["", f"{name:32}{'station':>12}{'celery':>12}"]
    lines += [f"  {name:30}{value:12.1f}" for name, value in part["station"].items()]
    lines += [f"  {name:30}{'':12}{value:12.1f}" for name, value in part["celery"].items()]
    return lines


def _dispatch_table(part: dict[str, Figures]) -> list[str]:
    mine, peer = part["station"], part["celery"]
    return [
        *_beside("dispatch", part),
        f"  {'runs per no-op task':30}{mine['runs_per_s'] / peer['tasks_per_s']:12.3f}",
        f"  {'start p50, times the peer':30}{mine['start_p50_ms'] / peer['start_p50_ms']:12.1f}",
    ]


def _width_table(part: dict[str, Figures]) -> list[str]:
    mine, peer = part["station"], part["celery"]
    return [
        *_beside("width", part),
        f"  {'times faster, same memory':30}{peer['wall_s_for_500'] / mine['wall_s']:12.1f}",
        f"  {'times less CPU a run':30}{peer['cpu_ms_per_run'] / mine['cpu_ms_per_run']:12.1f}",
    ]


def _growth_table(part: dict[str, Figures]) -> list[str]:
    lines = ["", f"{'growth':18}{'claim p50':>12}{'claim p99':>12}{'page p50':>12}   (ms)"]
    for name, figures in part.items():
        if name != "appends":
            title = "caps bind" if name == "blocked" else f"{int(name):,} queued"
            lines.append(f"  {title:>15} " + "".join(f"{f:12.2f}" for f in figures.values()))
    return [*lines, f"  appends by one writer: {part['appends']['per_s']:.0f} a second"]


_TABLES: dict[str, Callable[[Any], list[str]]] = {
    "dispatch": _dispatch_table,
    "width": _width_table,
    "growth": _growth_table,
}


if __name__ == "__main__":
    raise SystemExit(main())
