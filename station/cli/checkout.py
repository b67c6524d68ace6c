"""The settings of a ``station up`` in this folder, for commands called beside it.

``station up`` writes ``./.station/environment``: lines of ``STN_NAME=value``, mode 0600. A command
that was told nothing about a database takes them as defaults, so that it talks to that Station.
"""

import os
import stat
from collections.abc import MutableMapping
from pathlib import Path

PLACE = Path(".station") / "environment"
_SAYS_WHERE = ("STN_DATABASE_URL", "STN_DATABASE_URL_FILE", "STN_CONFIG")
_PREFIX = "STN_"


def adopt(folder: Path, environ: MutableMapping[str, str]) -> str | None:
    """Take the settings of the ``station up`` in ``folder`` as defaults into ``environ``.

    Nothing happens where ``environ`` names a database or a configuration file. The file counts
    only if it is ours alone: anybody could have left one in a shared folder.

    Returns:
        Why a file that is there was not used, in words; otherwise ``None``.
    """
    if any(environ.get(name) for name in _SAYS_WHERE):
        return None
    path = folder / PLACE
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        return None if missing else f"{path} cannot be read: {error.strerror}"
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return f"{path} is not used: it is not a file of this user"
        if status.st_mode & 0o077:
            return f"{path} is not used: others may read or change it (chmod 600 mends that)"
        lines = file.read(65_536).splitlines()
    for line in lines:
        name, separator, value = line.strip().partition("=")
        given = environ.get(f"{name}_FILE") or environ.get(name.removesuffix("_FILE"))
        if separator and name.startswith(_PREFIX) and not given:
            environ.setdefault(name, value)
    return None
