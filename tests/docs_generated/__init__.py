"""The pages of docs/ that are written from the code: configuration, metrics, commands.

``python -m tests.docs_generated`` writes them; a test compares them with what is committed.
"""

from collections.abc import Mapping

from tests.docs_generated.commands import commands_page
from tests.docs_generated.configuration import WITHOUT_EFFECT, configuration_page
from tests.docs_generated.metrics import LABELS, metrics, metrics_page
from tests.docs_generated.text import PACKAGES, ROOT

__all__ = ["LABELS", "PACKAGES", "ROOT", "WITHOUT_EFFECT", "metrics", "pages"]


def pages() -> Mapping[str, str]:
    """Path below the root and text of every generated page."""
    return {
        "docs/configuration.md": configuration_page(),
        "docs/metrics.md": metrics_page(),
        "docs/cli.md": commands_page(),
    }
