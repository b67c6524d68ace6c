"""Quoting a conversation in a scripted reply: ``{{input}}``, ``{{tool.NAME.json.path | filter}}``.

Expressions:

- ``input``: the text of the first user message; ``last``: of the latest one.
- ``tool.NAME.text``: the latest result of that tool, as text.
- ``tool.NAME.json.a.0.b``: a place in that result read as JSON; digits index lists.

Filters, separated by `` | `` (with spaces), in order:

- ``round:1``; ``json``; ``bytes`` (1610612736 becomes 1.5 GiB);
- ``match:REGEX``: the first group, or the whole match;
- ``default:TEXT``: said when there is nothing to quote;
- ``each:FORMAT``: a line for each item of a list, the first ten; FORMAT names the item's fields as
  ``{field}`` or ``{field:bytes}`` (leave a space before the closing braces).

A string that is one expression and nothing else keeps the quoted value's type, so that numbers and
lists can be passed on as tool arguments. What cannot be quoted is said in the reply, in brackets.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_EXPRESSION = re.compile(r"\{\{\s*(.+?)\s*\}\}", re.DOTALL)
_FIELD = re.compile(r"\{(\w+)(?::(\w+))?\}")
_MAX_LINES = 10


class _Missing:
    def __init__(self, what: str) -> None:
        self.what = what


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """What of a request's messages decides the turn and can be quoted."""

    turn: int
    first_user: str
    last_user: str
    tool_results: dict[str, str]

    @classmethod
    def of(cls, messages: list[Any]) -> "Conversation":
        """Read OpenAI chat messages; what has no meaning here is passed over."""
        turn, users, names, results = 0, [], {}, {}
        for message in messages:
            if not isinstance(message, dict):
                continue
            role, content = message.get("role"), _text(message.get("content"))
            if role == "assistant":
                turn += 1
                for call in message.get("tool_calls") or ():
                    names[call.get("id")] = call.get("function", {}).get("name", "")
            elif role == "user":
                users.append(content)
            elif role == "tool" and (name := names.get(message.get("tool_call_id"))):
                results[name] = content
        return cls(
            turn=turn,
            first_user=users[0] if users else "",
            last_user=users[-1] if users else "",
            tool_results=results,
        )


def _text(content: object) -> str:
    """Message content is a string, or a list of parts of which the text ones count."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def render(template: Any, conversation: Conversation) -> Any:
    """Fill in a string, or every string of a JSON value."""
    if isinstance(template, dict):
        return {key: render(value, conversation) for key, value in template.items()}
    if isinstance(template, list):
        return [render(value, conversation) for value in template]
    if not isinstance(template, str) or "{{" not in template:
        return template
    if whole := _EXPRESSION.fullmatch(template.strip()):
        value = _evaluate(whole[1], conversation)
        return _said(value) if isinstance(value, _Missing) else value
    return _EXPRESSION.sub(lambda match: _said(_evaluate(match[1], conversation)), template)


def _evaluate(expression: str, conversation: Conversation) -> Any:
    source, *filters = re.split(r"\s\|\s", expression)
    value = _look_up(source.strip(), conversation)
    for step in filters:
        name, _, argument = step.strip().partition(":")
        if name == "default":
            value = argument if isinstance(value, _Missing) else value
        elif not isinstance(value, _Missing):
            apply = _FILTERS.get(name)
            value = apply(value, argument) if apply else _Missing(f"no filter {name}")
    return value


def _look_up(source: str, conversation: Conversation) -> Any:
    if source == "input":
        return conversation.first_user
    if source == "last":
        return conversation.last_user
    kind, _, rest = source.partition(".")
    name, _, path = rest.partition(".")
    text = conversation.tool_results.get(name)
    if kind != "tool" or text is None:
        return _Missing(f"no {source}")
    if path == "text":
        return text
    head, *steps = path.split(".")
    try:
        value: Any = json.loads(text) if head == "json" else None
        for step in steps:
            value = value[int(step)] if isinstance(value, list) else value[step]
    except (ValueError, LookupError, TypeError):
        return _Missing(f"no {source}")
    return value


def _said(value: Any) -> str:
    if isinstance(value, _Missing):
        return f"({value.what})"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _bytes(value: Any, _: str) -> Any:
    try:
        size = float(value)
    except (TypeError, ValueError):
        return _Missing("not a number of bytes")
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


def _round(value: Any, digits: str) -> Any:
    try:
        return f"{float(value):.{int(digits or 0)}f}"
    except (TypeError, ValueError):
        return _Missing("not a number")


def _match(value: Any, pattern: str) -> Any:
    found = re.search(pattern, _said(value))
    if found is None:
        return _Missing(f"no match of {pattern}")
    return found[1] if found.re.groups else found[0]


def _each(value: Any, form: str) -> Any:
    if not isinstance(value, list):
        return _Missing("not a list")

    def line(item: Any) -> str:
        def field(match: re.Match[str]) -> str:
            found = (
                item.get(match[1], _Missing(f"no {match[1]}")) if isinstance(item, dict) else item
            )
            if match[2] and not isinstance(found, _Missing):
                apply = _FILTERS.get(match[2])
                found = apply(found, "") if apply else _Missing(f"no filter {match[2]}")
            return _said(found)

        return _FIELD.sub(field, form)

    return "\n".join(line(item) for item in value[:_MAX_LINES])


_FILTERS: dict[str, Callable[[Any, str], Any]] = {
    "bytes": _bytes,
    "round": _round,
    "match": _match,
    "each": _each,
    "json": lambda value, _: json.dumps(value, ensure_ascii=False),
}
