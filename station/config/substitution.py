"""``${VAR}`` and ``${VAR:default}`` inside configuration values.

It works on values that YAML has already parsed, never on YAML text: a variable's content cannot
become structure, and is not scanned again.
"""

import re
from collections.abc import Mapping

from station.config.problems import Refused

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_TOKEN = re.compile(
    rf"(?P<escaped>\$\$\{{)|\$\{{(?P<name>{_NAME})(?::(?P<default>[^}}]*))?\}}|(?P<bad>\$\{{)"
)


class UnsetVariable(Exception):
    """A placeholder without default names a variable that is not set."""

    def __init__(self, name: str, *, whole: bool) -> None:
        """``whole``: the value is nothing but this placeholder."""
        super().__init__(name)
        self.name = name
        self.whole = whole


def substitute(text: str, variables: Mapping[str, str]) -> str:
    """``text`` with its placeholders filled in; ``$${`` stands for a literal ``${``.

    An empty variable counts as unset, as compose files and unit files leave them.

    Raises:
        UnsetVariable: a variable without default is not set.
        Refused: a placeholder is malformed.
    """

    def fill(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "${"
        default = match["default"]
        if match["bad"] or "${" in (default or ""):
            raise Refused(
                "holds a malformed placeholder",
                fix="Write ${VAR} or ${VAR:default}, and $${ for a literal ${.",
            )
        if default is not None and default.startswith("-"):
            # Shell habit; silently meaning "-default" would be found out late.
            raise Refused(
                f"uses ${{{match['name']}:-…}}", fix="Write ${VAR:default}, without the dash."
            )
        value = variables.get(match["name"]) or default
        if value is None:
            raise UnsetVariable(match["name"], whole=match.span() == (0, len(text)))
        return value

    return _TOKEN.sub(fill, text)
