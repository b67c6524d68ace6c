"""Tables, fields and JSON, laid out for whoever reads them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from station.commands.session import Session
from station.commands.text import one_line, printable, to_json

if TYPE_CHECKING:
    from rich.console import Console

_GAP = "  "


@dataclass(frozen=True, kw_only=True)
class Painted:
    """A text with a style of rich (``green``, ``bold red``), used where there is colour."""

    text: str
    style: str


Cell = str | int | Painted | None

_STATUS_STYLES = {
    "queued": "cyan",
    "running": "blue",
    "waiting": "yellow",
    "succeeded": "green",
    "failed": "red",
    "timed_out": "red",
    "cancelled": "magenta",
}


def status(name: str) -> Painted:
    """A run's status in its colour."""
    return Painted(text=name, style=_STATUS_STYLES.get(name, ""))


def yes(value: bool) -> str:
    """``yes`` or ``no``."""
    return "yes" if value else "no"


def show_json(session: Session, value: Any) -> None:
    """Print ``value`` as one JSON text: indented for a person, in one line otherwise.

    Dates become ISO 8601 in UTC, decimals become texts.
    """
    session.stdout.write(to_json(value, indent=2 if session.interactive else None) + "\n")


def table(
    session: Session,
    titles: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    right: Collection[str] = (),
    empty: str,
) -> None:
    """Print rows under titles. ``right`` names the columns that align to the right.

    Laid out within the width where a person watches; else one line a row, nothing cut. Without
    rows, ``empty`` goes to ``stderr``, so that what reads ``stdout`` finds nothing.
    """
    cells = [[_text(cell) for cell in row] for row in rows]
    if not cells:
        session.note(empty)
        return
    if not session.interactive:
        _plain_table(session, titles, cells, right)
        return
    from rich.table import Table  # noqa: PLC0415 - costs 40 ms
    from rich.text import Text  # noqa: PLC0415

    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in titles:
        grid.add_column(
            title, justify="right" if title in right else "left", overflow="fold", no_wrap=False
        )
    for row in cells:
        grid.add_row(*(Text(text, style=style) for text, style in row))
    console(session).print(grid)


def fields(session: Session, pairs: Iterable[tuple[str, Cell]]) -> None:
    """Print ``name  value`` lines, aligned; pairs whose value is ``None`` or "" are left out."""
    shown = [(name, *_text(value)) for name, value in pairs if value not in (None, "")]
    width = max((len(name) for name, _, _ in shown), default=0)
    for name, text, style in shown:
        session.stdout.write(f"{name:<{width}}{_GAP}{paint(session, text, style)}\n")


def paint(session: Session, text: str, style: str) -> str:
    """``text``, made printable, with the escape codes of ``style`` where there is colour."""
    text = printable(text)
    if not session.color or not style or not text:
        return text
    from rich.style import Style  # noqa: PLC0415

    return Style.parse(style).render(text)


def console(session: Session) -> "Console":
    """A rich console over the session's ``stdout`` that asks the process for nothing."""
    from rich.console import Console  # noqa: PLC0415 - costs 60 ms

    return Console(
        file=session.stdout,
        width=session.width,
        force_terminal=session.color,
        color_system="standard" if session.color else None,
        no_color=not session.color,
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
        _environ={},
    )


def _text(cell: Cell) -> tuple[str, str]:
    """The one printable line of a cell, and its style."""
    match cell:
        case Painted(text=text, style=style):
            return one_line(text), style
        case None | "":
            return "-", ""
        case _:
            return one_line(str(cell)), ""


def _plain_table(
    session: Session,
    titles: Sequence[str],
    rows: Sequence[Sequence[tuple[str, str]]],
    right: Collection[str],
) -> None:
    from rich.cells import cell_len  # noqa: PLC0415

    lines = [list(titles), *([text for text, _ in row] for row in rows)]
    widths = [max(cell_len(line[i]) for line in lines) for i in range(len(titles))]
    for line in lines:
        padded = []
        for title, text, width in zip(titles, line, widths, strict=True):
            space = " " * (width - cell_len(text))
            padded.append(space + text if title in right else text + space)
        session.stdout.write(_GAP.join(padded).rstrip() + "\n")
