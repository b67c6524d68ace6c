"""Reads the YAML file: finds it, walks it against the schema, fills in ``${VAR}``.

The walk is over YAML's nodes rather than over Python objects, so that every value knows its line
and a key written twice is seen. Messages never quote the file's content: it may be a secret.
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import yaml

from station.config.environment import Given
from station.config.problems import Problem, Refused
from station.config.schema import LEAVES, SECTIONS
from station.config.substitution import UnsetVariable, substitute
from station.config.variables import FILE_VARIABLE

DEFAULT_PATH = Path("/etc/station/config.yaml")


class Unreadable(Exception):
    """There is no document to read values from."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def find_document(
    path: str | None, environ: Mapping[str, str], default: Path = DEFAULT_PATH
) -> Path | None:
    """The file to read: ``path``, else what STN_CONFIG names, else the default if it exists."""
    chosen = path or environ.get(FILE_VARIABLE)
    if chosen:
        return Path(chosen)
    return default if default.exists() else None


@dataclass(frozen=True, kw_only=True)
class Document:
    """What one file says."""

    given: Mapping[str, Given]
    """By key."""
    unset: Mapping[str, tuple[str, str]]
    """Keys left unset by a placeholder: (variable, source)."""
    problems: tuple[Problem, ...]


def read_document(
    path: Path, variables: Mapping[str, str], *, overridden: Container[str] = ()
) -> Document:
    """Read ``path``.

    A value that is empty, null, or one placeholder of an unset variable leaves its key unset;
    the schema says whether the key is required.

    Args:
        path: a YAML file.
        variables: what placeholders refer to.
        overridden: keys whose values will not be used; their placeholders are left alone.

    Raises:
        Unreadable: there is no such file, or it is not YAML.
    """
    walk = _Walk(path, variables, overridden)
    return Document(given=walk.given, unset=walk.unset, problems=tuple(walk.problems))


class _Walk:
    def __init__(self, path: Path, variables: Mapping[str, str], overridden: Container[str]):
        self.given: dict[str, Given] = {}
        self.unset: dict[str, tuple[str, str]] = {}
        self.problems: list[Problem] = []
        self._path = path
        self._variables = variables
        self._overridden = overridden
        self._constructor = yaml.constructor.SafeConstructor()
        root = _compose(path)
        if root is not None:
            self._section(root, "")

    def _section(self, node: yaml.Node, section: str) -> None:
        if _is_null(node):
            return
        if not isinstance(node, yaml.MappingNode):
            self._refuse(node, section or str(self._path), "must be a group of keys")
            return
        seen: set[str] = set()
        for key_node, value in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._refuse(key_node, section or str(self._path), "has a key that is not a name")
                continue
            key = key_node.value
            path = f"{section}.{key}".lstrip(".")
            if key in seen:
                self._refuse(key_node, path, "is written twice", fix="Keep one of them.")
            elif path in SECTIONS:
                self._section(value, path)
            elif path in LEAVES:
                self._leaf(value, path)
            else:
                self._refuse(key_node, path, "is not a key of the configuration", fix=_guess(path))
            seen.add(key)

    def _leaf(self, node: yaml.Node, path: str) -> None:
        if path in self._overridden:
            return
        try:
            value = self._value(node)
        except Refused as refused:
            self._refuse(node, path, refused.problem, fix=refused.fix)
        except UnsetVariable as missing:
            if missing.whole and isinstance(node, yaml.ScalarNode):
                self.unset[path] = (missing.name, self._source(node))
            else:
                self._refuse(
                    node,
                    path,
                    f"needs the variable {missing.name}, which is not set",
                    fix=f"Set it, or write ${{{missing.name}:default}}.",
                )
        else:
            if value is not None and value != "":
                self.given[path] = Given(value=value, source=self._source(node))

    def _value(self, node: yaml.Node) -> object:
        if isinstance(node, yaml.SequenceNode):
            return [self._scalar(item) for item in node.value]
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> object:
        if not isinstance(node, yaml.ScalarNode):
            raise Refused("must be a plain value or a list of plain values")
        try:
            value = self._constructor.construct_object(node)
        except (yaml.YAMLError, ValueError):
            # "from None": YAML's own words quote the value.
            raise Refused("is not a value YAML can read", fix="Put it in quotes.") from None
        return substitute(value, self._variables) if isinstance(value, str) else value

    def _source(self, node: yaml.Node) -> str:
        return f"{self._path}:{node.start_mark.line + 1}"

    def _refuse(self, node: yaml.Node, path: str, problem: str, *, fix: str = "") -> None:
        self.problems.append(
            Problem(path=path, source=self._source(node), problem=problem, fix=fix)
        )


def _read(path: Path) -> str:
    reason: str | None
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        reason = f"cannot be read: {(error.strerror or 'failed').lower()}"
    except UnicodeDecodeError:
        reason = "is not UTF-8 text"
    fix = "Give the file by --config or STN_CONFIG."
    raise Unreadable(Problem(path=str(path), source="", problem=reason, fix=fix))


def _compose(path: Path) -> yaml.Node | None:
    # YAML's own words quote the file, so only the place is taken from them.
    text = _read(path)
    line = 1
    try:
        return yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
    except (yaml.YAMLError, RecursionError):
        pass  # it has no place to tell
    raise Unreadable(
        Problem(
            path=str(path),
            source=f"{path}:{line}",
            problem="is not valid YAML near this line",
            fix="Indent with spaces, and quote values that begin with one of * & ! % @ { [.",
        )
    )


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _guess(path: str) -> str:
    section, _, name = path.rpartition(".")
    elsewhere = [leaf for leaf in LEAVES if leaf.rpartition(".")[2] == name]
    siblings = list(_children(section))
    nearest = get_close_matches(name, siblings, n=1)
    if nearest:
        return f"Did you mean {f'{section}.{nearest[0]}'.lstrip('.')}?"
    if elsewhere:
        return f"Did you mean {' or '.join(elsewhere)}?"
    return f"Here go: {', '.join(siblings)}."


def _children(section: str) -> Iterator[str]:
    for path in [*LEAVES, *sorted(SECTIONS)]:
        parent, _, name = path.rpartition(".")
        if name and parent == section:
            yield name
