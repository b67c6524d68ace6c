"""What the generated pages are made of."""

from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("station", "agents", "runs", "mcp", "sshgw")
_NOTE = "<!-- Written by `python -m tests.docs_generated`. Change the code, then run it. -->\n\n"


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def page(parts: Sequence[str]) -> str:
    """A page of paragraphs, which end in a newline each."""
    return _NOTE + "\n".join(parts)
