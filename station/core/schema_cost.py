"""How much work it takes at most to hold a value against a JSON Schema.

Subschemas that are applied to the same value multiply along references and alternatives, and
recursive alternatives multiply with each level of the value. The engine follows all of them. So
it is counted first, from the schema's structure and from how many values the value has on each of
its levels, how often the engine can come by at most.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from station.core.schema_graph import Node, graph, size

_MOST_VALUES = 30_000
"""Of a schema: it is compiled, and its graph made, in a tenth of a second or two."""
_MOST_REFERENCES = 2_000
"""Compiling takes time that grows with their square."""
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef", "$anchor", "$dynamicAnchor")
_DOCUMENT = 20
"""References, for a subschema with an address: each may lead into each of these."""
_MOST_PATTERN_WORK = 1_000
_MOST_COUNTING = 50_000
"""Edges of the graph that are looked at, over all levels; more counts as unbounded."""
_LONGEST_CHAIN = 500
"""Of subschemas applied to one value by way of each other: the engine's stack holds them all."""
_MOST_DEEP = 10_000
"""Of such chains over all levels of a value."""

_PATTERN, _BACKTRACKING = 50, 20_000
"""Steps of one match in linear time, and of one in which the engine counts its backtracking."""
_LONG = 1 << 64
_BACKTRACKS = re.compile(r"\(\?[=!<>]|\\[1-9kKG]|[+*?}]\+")


@dataclass(frozen=True, kw_only=True)
class Work:
    """At most; infinite where there is no bound."""

    steps: float
    """Of finding out whether the value fits: tens of nanoseconds each."""
    steps_to_tell: float
    """Of finding everything that does not fit."""
    errors: float
    """That may be found, in ten microseconds each: telling one takes its value's text."""


@dataclass(frozen=True, kw_only=True)
class _Level:
    """What meets one value that is so many levels below; by node."""

    visits: dict[Node, float]
    marks: dict[Node, float]
    """Visits once more, to find out what is still unevaluated."""
    told: dict[Node, float]
    errors: dict[Node, float]
    matches: dict[Node, float]
    remarks: dict[Node, float]


def too_large(schema: Mapping[str, Any]) -> str | None:
    """Why compiling the schema would take too long; ``None`` when it would not."""
    if size(schema, _MOST_VALUES) > _MOST_VALUES:
        return f"it consists of more than {_MOST_VALUES} values"
    references = pattern_work = 0
    waiting: list[Any] = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            references += sum(isinstance(one.get(key), str) for key in _REFERENCES)
            references += _DOCUMENT * sum(isinstance(one.get(key), str) for key in ("$id", "id"))
            if isinstance(pattern := one.get("pattern"), str):
                pattern_work += _compiling(pattern)
            if isinstance(patterns := one.get("patternProperties"), dict):
                pattern_work += sum(map(_compiling, patterns))
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    if references > _MOST_REFERENCES:
        return f"it has more than {_MOST_REFERENCES} references"
    return "its patterns are too many or too long" if pattern_work > _MOST_PATTERN_WORK else None


def _compiling(pattern: str) -> int:
    return 1 + len(pattern) // 20 + 5 * ("{" in pattern)


class Costs:
    """Of one schema, for any value; levels are counted once a value has them."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = graph(schema)
        self._order = _in_order(self._root)
        self._edges = {node: 1 + _edges(node) for node in self._order or ()}
        self._living = self._order or []
        self._levels: list[_Level] = []
        self._counted = 0
        self.patterns = any(node.patterns or node.key_patterns for node in self._order or ())
        """Whether it has any; the engine may give up on them."""
        self.alternatives = any(node.alternatives for node in self._order or ())
        """Whether it has any; the engine finds all errors of each."""
        self._names = any(node.names for node in self._order or ())
        self._chain = 0 if self._order is None else _longest(self._order)

    @property
    def bounded(self) -> bool:
        """Whether there is a bound for any value at all."""
        return self._order is not None and self._chain <= _LONGEST_CHAIN

    def of(self, value: Any) -> Work:
        """For ``value``, which is JSON."""
        if not self.bounded:
            return Work(steps=math.inf, steps_to_tell=math.inf, errors=math.inf)
        counts, strings, texts, digits = _profile(value)
        if len(counts) * self._chain > _MOST_DEEP and not self._ends_within(len(counts)):
            return Work(steps=math.inf, steps_to_tell=math.inf, errors=math.inf)
        steps = told = errors = matching = 0.0
        below = whole = sum(texts)
        for depth, count in enumerate(counts):
            level = self._level(depth)
            if level is None:
                return Work(steps=math.inf, steps_to_tell=math.inf, errors=math.inf)
            steps += level.visits.get(self._root, 0) * (count + digits[depth])
            told += level.told.get(self._root, 0) * (count + digits[depth])
            quoted = count * whole if self._names else below
            errors += level.errors.get(self._root, 0) * (count + quoted / 1000)
            matching += level.matches.get(self._root, 0) * (strings[depth] + texts[depth] / 100)
            below -= texts[depth]
            if not level.visits:
                break
        share = told / steps if 0 < steps < math.inf else 1
        return Work(
            steps=steps + matching, steps_to_tell=told + matching * max(share, 1), errors=errors
        )

    def _ends_within(self, depth: int) -> bool:
        """Whether the schema says nothing so far down that its chains would add up."""
        most = min(depth, _MOST_DEEP // max(self._chain, 1))
        return any((level := self._level(d)) is None or not level.visits for d in range(most + 1))

    def _level(self, depth: int) -> _Level | None:
        while len(self._levels) <= depth:
            self._counted += sum(self._edges[node] for node in self._living)
            if self._counted > _MOST_COUNTING:
                return None
            above = self._levels[-1] if self._levels else None
            level = _counted(self._living, above, first=len(self._levels) == 1)
            self._levels.append(level)
            # What says nothing about this level says nothing about those below.
            self._living = [node for node in self._living if node in level.visits]
        return self._levels[depth]


def _counted(order: list[Node], above: _Level | None, *, first: bool) -> _Level:
    """One level, from the one above it, which is a step nearer to the schema's own."""
    now = _Level(visits={}, marks={}, told={}, errors={}, matches={}, remarks={})
    for node in order:
        visits = marks = told = errors = matches = remarks = 0.0
        if above is None:
            visits = told = node.steps
            errors = node.errors
            matches = sum(map(_matching, node.patterns))
        else:
            if first and node.key_patterns:
                visits = told = len(node.key_patterns)
                matches = sum(map(_matching, node.key_patterns))
            for was, most in ((node.members, sum), (node.named, _largest)):
                visits += most([above.visits.get(each, 0.0) for each in was])
                told += most([above.told.get(each, 0.0) for each in was])
                errors += most([above.errors.get(each, 0.0) for each in was])
                matches += most([above.matches.get(each, 0.0) for each in was])
            for each in node.probes:
                visits += above.visits.get(each, 0.0)
                told += 2 * above.visits.get(each, 0.0)
                matches += above.matches.get(each, 0.0)
            marks, remarks = visits, matches
        for each in node.in_place():
            visits += now.visits.get(each, 0.0)
            matches += now.matches.get(each, 0.0)
            marks += now.visits.get(each, 0.0) + now.marks.get(each, 0.0)
            remarks += now.matches.get(each, 0.0) + now.remarks.get(each, 0.0)
        for each in node.together:
            told += now.told.get(each, 0.0)
            errors += now.errors.get(each, 0.0)
        for each in node.alternatives:
            told += now.told.get(each, 0.0) + 2 * now.visits.get(each, 0.0)
            errors += now.errors.get(each, 0.0)
        for each in node.tests:
            told += 2 * now.visits.get(each, 0.0)
        if node.unevaluated:
            visits, told, matches = visits + marks, told + marks, matches + remarks
        if visits:
            now.visits[node], now.marks[node], now.told[node] = visits, marks, told
            now.errors[node], now.matches[node], now.remarks[node] = errors, matches, remarks
    return now


def _largest(numbers: list[float]) -> float:
    return max(numbers, default=0.0)


def _matching(pattern: str) -> int:
    return _BACKTRACKING if _BACKTRACKS.search(pattern) else _PATTERN


def _edges(node: Node) -> int:
    return sum(1 for _ in node.in_place()) + sum(
        len(each) for each in (node.named, node.members, node.probes, node.key_patterns)
    )


def _in_order(root: Node) -> list[Node] | None:
    """All nodes, those applied in place before whoever applies them; ``None`` with a circle."""
    order: list[Node] = []
    seen: set[Node] = set()
    starts = [root]
    while starts:
        start = starts.pop()
        if start in seen:
            continue
        open_: set[Node] = {start}
        seen.add(start)
        path = [(start, start.in_place())]
        while path:
            node, inner = path[-1]
            if node.unbounded:
                return None
            following = next(inner, None)
            if following is None:
                path.pop()
                open_.discard(node)
                order.append(node)
                starts += [*node.named, *node.members, *node.probes]
            elif following in open_:
                return None
            elif following not in seen:
                seen.add(following)
                open_.add(following)
                path.append((following, following.in_place()))
    return order


def _longest(order: list[Node]) -> int:
    """How long the longest chain of nodes applied in place is."""
    length: dict[Node, int] = {}
    for node in order:
        length[node] = 1 + max((length[each] for each in node.in_place()), default=0)
    return max(length.values())


def _profile(value: Any) -> tuple[list[int], list[int], list[int], list[int]]:
    """By level: how many values, how many texts (keys among them), how many characters.

    Last, what is added by numbers that are too long for the processor: calculating with one takes
    time that grows with the square of its length.
    """
    counts, strings, texts, digits = [], [], [], []
    level, keys = [value], 0
    length_of_keys = 0
    while level:
        counts.append(len(level))
        lengths = [len(each) for each in level if isinstance(each, str)]
        strings.append(len(lengths) + keys)
        texts.append(sum(lengths) + length_of_keys + 8 * (len(level) - len(lengths)))
        long = [n for n in level if isinstance(n, int) and not -_LONG < n < _LONG]
        digits.append(sum(number.bit_length() ** 2 // 5_000 for number in long))
        objects = [each for each in level if isinstance(each, dict)]
        keys = sum(map(len, objects))
        length_of_keys = sum(len(key) for each in objects for key in each)
        level = [inner for each in objects for inner in each.values()] + [
            inner for each in level if isinstance(each, list) for inner in each
        ]
    return counts, strings, texts, digits
