"""The configuration as people may see it."""

from typing import Any

from station.config.schema import LEAVES, Config

DEFAULT_SOURCE = "default"


def redacted(config: Config, *, with_sources: bool = False) -> dict[str, Any]:
    """The configuration as JSON-ready nested dictionaries, without its secrets.

    Secrets are ``********``; URLs keep user, host and path and lose their passwords; durations
    and sizes are written as in the file. With ``with_sources`` each key's value becomes
    ``{"value": …, "source": …}``, the source a variable, ``file:line`` or ``default``.
    """
    shown = config.model_dump(mode="json")
    if with_sources:
        for path in LEAVES:
            *sections, name = path.split(".")
            branch = shown
            for section in sections:
                branch = branch[section]
            source = config.sources.get(path, DEFAULT_SOURCE)
            branch[name] = {"value": branch[name], "source": source}
    return shown
