"""Writes the generated pages."""

import os
import tempfile

from station.config.variables import FILE_VARIABLE
from tests.docs_generated import ROOT, pages


def main() -> None:
    """Write the pages."""
    with tempfile.TemporaryDirectory() as folder:
        # The commands need a configuration to be loaded; nothing is connected to.
        os.environ |= {
            "STN_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
            "STN_REDIS_URL": "redis://127.0.0.1:1/0",
            "STN_ENCRYPTION_KEY": "00" * 32,
            "STN_DATA_DIR": folder,
        }
        os.environ.pop(FILE_VARIABLE, None)
        for path, text in pages().items():
            (ROOT / path).write_text(text)


if __name__ == "__main__":
    main()
