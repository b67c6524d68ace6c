"""Use cases of agents: define, change (by a new version), enable, pause, look up."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from django.db import models, transaction
from django.db.models import Max

from agents import retrying
from agents.errors import AgentNotFound
from agents.models import Agent, AgentVersion
from station.accounts.services import id_in, store
from station.core.errors import Conflict, InvalidInput
from station.core.json_schema import InvalidSchema, Schema
from station.core.principal import Principal, Role
from station.core.storable import check_json, check_text

_GRANT = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/(\*|[^/\s*]{1,200})")
_LARGEST_PROMPT = 200_000
_MOST_STEPS = 1000
_LONGEST_TIMEOUT = 7 * 24 * 3600.0
# What a version may pass to the model; anything else would be a way to redirect the call
# (base_url, api_key, headers) or to break its accounting (stream, n).
_PARAMETERS = {
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop",
    "presence_penalty", "frequency_penalty", "reasoning_effort", "parallel_tool_calls",
    "tool_choice", "verbosity",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What one version says; see :class:`agents.models.AgentVersion` for the fields."""

    prompt: str
    model: str = ""
    fallback_models: Sequence[str] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tools: Sequence[str] = ()
    max_steps: int = 25
    timeout: float | None = None
    output_schema: Mapping[str, Any] | None = None
    retry: Mapping[str, Any] | None = None

    def check(self) -> None:
        """Raise :class:`InvalidInput` naming the first field that cannot work."""
        if not self.prompt.strip():
            raise InvalidInput("prompt", "is empty", fix="Say what the agent is to do.")
        if len(self.prompt) > _LARGEST_PROMPT:
            raise InvalidInput("prompt", f"is longer than {_LARGEST_PROMPT} characters")
        check_text("prompt", self.prompt)
        check_text("model", self.model)
        for where, value in (
            ("fallback_models", self.fallback_models),
            ("tools", self.tools),
            ("parameters", self.parameters),
            ("output_schema", self.output_schema),
        ):
            check_json(where, value)
        if unknown := set(self.parameters) - _PARAMETERS:
            raise InvalidInput(
                f"parameters.{min(unknown)}",
                "is not a parameter an agent may set",
                fix=f"Known are {', '.join(sorted(_PARAMETERS))}.",
            )
        for index, grant in enumerate(self.tools):
            if not isinstance(grant, str) or not _GRANT.fullmatch(grant):
                raise InvalidInput(
                    f"tools[{index}]",
                    f"{grant!r} is not a grant",
                    fix="Write server/tool or server/*.",
                )
        for index, name in enumerate(self.fallback_models):
            if not isinstance(name, str) or not name.strip():
                raise InvalidInput(f"fallback_models[{index}]", "is not the name of a model")
        if not 1 <= self.max_steps <= _MOST_STEPS:
            raise InvalidInput("max_steps", f"must be 1 to {_MOST_STEPS}")
        if self.timeout is not None and not 0 < self.timeout <= _LONGEST_TIMEOUT:
            raise InvalidInput("timeout", "must be more than 0 s and at most 7 days")
        if self.output_schema is not None:
            check_schema("output_schema", self.output_schema)
        retrying.parse("retry", self.retry)


def check_schema(where: str, schema: object) -> None:
    """Raise :class:`InvalidInput` unless ``schema`` is a JSON Schema of an object."""
    if not isinstance(schema, Mapping):
        raise InvalidInput(where, "is not a JSON Schema: a JSON object is needed")
    try:
        Schema(schema)
    except InvalidSchema as error:
        raise InvalidInput(f"{where}{error.path}", error.problem) from None


def visible(principal: Principal) -> models.QuerySet[Agent]:
    """Agents of the environments the principal is a member of."""
    rows = Agent.objects.select_related("environment", "current_version")
    return rows if principal.platform_admin else rows.filter(environment_id__in=principal.roles)


def get(principal: Principal, reference: int | str, *, environment_id: int | None = None) -> Agent:
    """The agent that a caller named: a number is an id, a text a name or else an id.

    Who has an agent's id already looks it up among the :func:`visible`: names may be digits.

    Raises:
        AgentNotFound: none is visible under that reference.
        Conflict: the name exists in several environments and none was chosen.
    """
    rows = visible(principal)
    if environment_id is not None:
        rows = rows.filter(environment_id=environment_id)
    found = [] if isinstance(reference, int) else list(rows.filter(name=reference)[:2])
    if not found and (pk := id_in(reference)) is not None:
        found = list(rows.filter(pk=pk))
    if not found:
        raise AgentNotFound(
            f"There is no agent {str(reference)!r} that you may see.",
            fix="`station agent list` shows them.",
        )
    if len(found) > 1:
        names = ", ".join(agent.environment.name for agent in found)
        raise Conflict(
            f"Agent {reference!r} exists in several environments ({names}).",
            fix="Name the environment too, or use the agent's id.",
        )
    return found[0]


def behind(rows: models.QuerySet[Agent], agent: Agent) -> models.QuerySet[Agent]:
    """Those of ``rows`` that come behind ``agent`` by environment and name."""
    where, name = agent.environment.name, agent.name
    return rows.filter(
        models.Q(environment__name__gt=where) | models.Q(environment__name=where, name__gt=name)
    )


def create(
    principal: Principal,
    *,
    environment_id: int,
    name: str,
    definition: Definition,
    description: str = "",
) -> Agent:
    """A new agent with its first version. For operators of the environment."""
    principal.require(Role.OPERATOR, environment_id)
    definition.check()
    with transaction.atomic():
        agent = Agent(environment_id=environment_id, name=name, description=description)
        store(agent, taken=f"There is an agent {name!r} in this environment already.")
        _add_version(principal, agent, definition)
    return visible(principal).get(pk=agent.pk)


def add_version(principal: Principal, agent: Agent, definition: Definition) -> AgentVersion:
    """Make ``definition`` the agent's current version; unchanged, the present one is kept.

    Runs keep the version they were submitted with. For operators of the environment.
    """
    principal.require(Role.OPERATOR, agent.environment_id)
    definition.check()
    with transaction.atomic():
        return _change_to(principal, _locked(agent), definition)


def revise(principal: Principal, agent: Agent, **changed: Any) -> AgentVersion:
    """:func:`add_version` of the present definition with some fields ``changed``."""
    principal.require(Role.OPERATOR, agent.environment_id)
    with transaction.atomic():
        locked = _locked(agent)
        assert locked.current_version is not None
        definition = replace(definition_of(locked.current_version), **changed)
        definition.check()
        return _change_to(principal, locked, definition)


def _locked(agent: Agent) -> Agent:
    """The agent as it stands, which nobody else changes until the transaction ends."""
    return Agent.objects.select_for_update(of=("self",)).get(pk=agent.pk)


def _change_to(principal: Principal, locked: Agent, definition: Definition) -> AgentVersion:
    present = locked.current_version
    if present is not None and _values(definition_of(present)) == _values(definition):
        return present
    return _add_version(principal, locked, definition)


def definition_of(version: AgentVersion) -> Definition:
    """The definition a stored version holds."""
    return Definition(
        prompt=version.prompt,
        model=version.model,
        fallback_models=tuple(version.fallback_models),
        parameters=version.parameters,
        tools=tuple(version.tools),
        max_steps=version.max_steps,
        timeout=version.timeout,
        output_schema=version.output_schema,
        retry=version.retry,
    )


def _add_version(principal: Principal, agent: Agent, definition: Definition) -> AgentVersion:
    last = agent.versions.aggregate(last=Max("number"))["last"] or 0
    version = AgentVersion(
        agent=agent,
        number=last + 1,
        created_by=principal.label[:200],
        **_values(definition),
    )
    store(version, taken="The agent is being changed by somebody else; try again.")
    agent.current_version = version
    agent.save(update_fields=["current_version"])
    return version


def _values(definition: Definition) -> dict[str, Any]:
    """The definition as the columns hold it."""
    policy = retrying.parse("retry", definition.retry)
    return asdict(definition) | {
        "fallback_models": list(definition.fallback_models),
        "tools": list(definition.tools),
        "retry": None if policy is None else policy.values(),
    }
