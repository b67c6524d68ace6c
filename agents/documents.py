"""Agents as YAML documents: what ``station agent apply`` reads and ``export`` writes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import yaml
from django.db import transaction

from agents import changes, retrying, services
from agents.models import Agent
from agents.services import Definition
from station.accounts import services as accounts
from station.config.quantities import format_duration, parse_duration
from station.core.errors import InvalidInput, StationError
from station.core.principal import Principal
from station.core.unchanged import UNCHANGED, Unchanged

_MOST_DOCUMENTS = 1000
_OF_TAGS = (ValueError, LookupError, AttributeError, TypeError)
"""What PyYAML raises where a value does not have the form of its tag."""
_DEFAULT = Definition(prompt="")
_DEFINED = ("model", "fallback_models", "parameters", "tools", "max_steps", "timeout",
            "output_schema", "retry")  # fmt: skip
_SWITCHED = ("enabled", "paused", "description", "max_running", "concurrency_key",
             "max_running_per_key")  # fmt: skip
_KEYS = ("name", "environment", *_SWITCHED, "prompt", *_DEFINED)
_KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "name": (str, "a text"),
    "environment": (str, "a text"),
    "description": (str, "a text"),
    "enabled": (bool, "true or false"),
    "paused": (bool, "true or false"),
    "max_running": (int, "a whole number"),
    "concurrency_key": (str, "a text"),
    "max_running_per_key": (int, "a whole number"),
    "prompt": (str, "a text"),
    "model": (str, "a text"),
    "fallback_models": (list, "a list of texts"),
    "parameters": (dict, "a mapping"),
    "tools": (list, "a list of texts"),
    "max_steps": (int, "a whole number"),
    "timeout": ((str, int, float), "a duration like 300s"),
    "output_schema": (dict, "a mapping"),
    "retry": (dict, "a mapping"),
}


@dataclass(frozen=True, kw_only=True)
class Document:
    """What a document says of one agent; ``None`` where it says nothing.

    ``max_running`` ``None`` lifts the cap.
    """

    name: str
    environment: str | None
    description: str | None
    enabled: bool | None
    paused: bool | None
    definition: Definition
    max_running: int | Unchanged | None = UNCHANGED
    concurrency_key: str | None = None
    max_running_per_key: int | None = None

    def apply(self, principal: Principal, *, environment_id: int) -> tuple[Agent, str]:
        """Make the environment's agent of that name be so, all or nothing; and what was done.

        For operators of the environment.

        Raises:
            InvalidInput: the definition cannot work.
        """
        with transaction.atomic():
            rows = services.visible(principal).filter(environment_id=environment_id)
            found = rows.filter(name=self.name).first()
            if found is None:
                agent = services.create(
                    principal,
                    environment_id=environment_id,
                    name=self.name,
                    definition=self.definition,
                    description=self.description or "",
                )
                outcome = "made"
            else:
                agent, outcome = found, self._change(principal, found)
            wanted = {
                name: value
                for name, value in self._switched().items()
                if value != getattr(agent, name)
            }
            if wanted:
                changes.update(principal, agent, **wanted)
                outcome = "changed" if outcome == "unchanged" else outcome
            return rows.get(pk=agent.pk), outcome

    def _switched(self) -> dict[str, Any]:
        """What it says of the agent beside its definition."""
        said = {name: getattr(self, name) for name in _SWITCHED if name != "max_running"}
        given = {name: value for name, value in said.items() if value is not None}
        cap = self.max_running
        return given if cap is UNCHANGED else given | {"max_running": cap}

    def _change(self, principal: Principal, agent: Agent) -> str:
        before = agent.current_version
        version = services.add_version(principal, agent, self.definition)
        same = before is not None and before.pk == version.pk
        return "unchanged" if same else f"changed, version {version.number}"

    def values(self) -> dict[str, Any]:
        """The document as plain values, without what has its default."""
        own: dict[str, Any] = {
            "name": self.name,
            "environment": self.environment,
            "description": self.description or None,
            "enabled": None if self.enabled else self.enabled,
            "paused": self.paused or None,
            "max_running": None if self.max_running is UNCHANGED else self.max_running,
            "concurrency_key": self.concurrency_key or None,
            "max_running_per_key": self.max_running_per_key if self.concurrency_key else None,
            "prompt": self.definition.prompt,
        }
        for name in _DEFINED:
            value, default = getattr(self.definition, name), getattr(_DEFAULT, name)
            value = list(value) if isinstance(value, tuple) else value
            if value != (list(default) if isinstance(default, tuple) else default):
                own[name] = value
        if self.definition.timeout is not None:
            own["timeout"] = format_duration(self.definition.timeout)
        if (policy := retrying.stored(self.definition.retry)) is not None:
            own["retry"] = policy.document()
        return {name: value for name, value in own.items() if value is not None}

    def to_yaml(self) -> str:
        """The document as YAML text, long texts as blocks."""
        return yaml.dump(self.values(), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


@transaction.atomic
def apply_all(
    principal: Principal, documents: Sequence[Document], *, environment: str | None = None
) -> list[tuple[Agent, str]]:
    """Make all agents be as the documents say, or none; each agent, and what was done.

    ``environment`` is for documents that name none. For operators of every environment named.

    Raises:
        InvalidInput: a document cannot work; its number is part of the field.
        StationError: anything else that stands against one; its number begins the message.
    """
    targets = []
    for number, document in enumerate(documents, 1):
        with _numbered(number):
            where = document.environment or environment
            if where is None:
                raise InvalidInput("environment", "is missing", fix="Name it there, or with --env.")
            document.definition.check()
            targets.append((accounts.environment(principal, where).pk, document.name, number))
    applied = {}
    for environment_id, _, number in sorted(targets):  # in one order, or two files could deadlock
        with _numbered(number):
            document = documents[number - 1]
            applied[number] = document.apply(principal, environment_id=environment_id)
    return [outcome for _, outcome in sorted(applied.items())]


@contextmanager
def _numbered(number: int) -> Iterator[None]:
    """Within, what goes wrong is told with the document's number."""
    try:
        yield
    except InvalidInput as error:
        raise error.at(f"document {number}.{error.field}") from None
    except StationError as error:
        error.message = f"Document {number}: {error.message}"
        raise


def to_document(agent: Agent) -> Document:
    """The document of an agent with a current version."""
    version = agent.current_version
    assert version is not None
    return Document(
        name=agent.name,
        environment=agent.environment.name,
        description=agent.description,
        enabled=agent.enabled,
        paused=agent.paused,
        max_running=agent.max_running,
        concurrency_key=agent.concurrency_key,
        max_running_per_key=agent.max_running_per_key,
        definition=services.definition_of(version),
    )


def parse_documents(text: str) -> list[Document]:
    """The documents of a YAML text.

    Raises:
        InvalidInput: it is not YAML, or a document has an unknown, missing or ill-typed key.
    """
    try:
        # Aliases could make a small file stand for a huge one.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise InvalidInput("file", "uses YAML aliases", fix="Write the value out instead.")
        found = [value for value in yaml.safe_load_all(text) if value is not None]
    except (yaml.YAMLError, RecursionError, *_OF_TAGS) as error:
        problem = " ".join(str(error).split())[:300]
        raise InvalidInput("file", f"is not YAML: {problem}") from None
    if not found:
        raise InvalidInput("file", "holds no document")
    if len(found) > _MOST_DOCUMENTS:
        raise InvalidInput("file", f"holds more than {_MOST_DOCUMENTS} documents")
    return [_document(value, f"document {number}") for number, value in enumerate(found, 1)]


def _document(value: object, where: str) -> Document:
    if not isinstance(value, dict):
        raise InvalidInput(where, "must be a mapping", fix="Write name: and prompt: at least.")
    for key in value:
        if key not in _KEYS:
            near = get_close_matches(str(key), _KEYS, n=1)
            fix = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(_KEYS)}."
            raise InvalidInput(f"{where}.{key}", "is not known", fix=fix)
    given = {key: item for key, item in value.items() if item is not None}
    for key in ("name", "prompt"):
        if key not in given:
            raise InvalidInput(f"{where}.{key}", "is required")
    for key, item in given.items():
        kind, words = _KINDS[key]
        if not isinstance(item, kind) or (isinstance(item, bool) and kind is not bool):
            raise InvalidInput(f"{where}.{key}", f"must be {words}")
    for key in ("parameters", "output_schema"):
        _check_json(f"{where}.{key}", given.get(key))
    if "timeout" in given:
        given["timeout"] = _seconds(f"{where}.timeout", given["timeout"])
    if "retry" in given:
        given["retry"] = _policy(f"{where}.retry", given["retry"])
    return Document(
        name=given["name"],
        environment=given.get("environment"),
        description=given.get("description"),
        enabled=given.get("enabled"),
        paused=given.get("paused"),
        max_running=value.get("max_running", UNCHANGED),
        concurrency_key=given.get("concurrency_key"),
        max_running_per_key=given.get("max_running_per_key"),
        definition=Definition(
            prompt=given["prompt"], **{name: given[name] for name in _DEFINED if name in given}
        ),
    )


def _check_json(where: str, value: object) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        problem = f"holds what JSON does not know: {error}"
        raise InvalidInput(where, problem, fix="Put dates in quotes.") from None


def _seconds(where: str, value: str | float) -> float:
    try:
        return float(value) if isinstance(value, int | float) else parse_duration(value)
    except (ValueError, OverflowError):
        raise InvalidInput(where, f"{value!r} is no duration", fix="Write it like 300s.") from None


def _policy(where: str, value: Mapping[Any, Any]) -> dict[str, Any] | None:
    # To YAML 1.1 a bare `on` is the truth value.
    policy = retrying.parse(where, {"on" if k is True else k: v for k, v in value.items()})
    return None if policy is None else policy.values()


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
