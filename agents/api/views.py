"""Agents and their versions. Submitting runs to them is in :mod:`runs.api`."""

from rest_framework.request import Request
from rest_framework.response import Response

from agents import changes, services
from agents.api.serializers import (
    AgentChange,
    AgentDetailSerializer,
    AgentQuery,
    AgentSerializer,
    DefinitionShape,
    NewAgent,
    VersionQuery,
    VersionSerializer,
)
from agents.models import Agent
from agents.services import Definition
from station.accounts import services as accounts
from station.accounts.api.door import Door, below, operation, page_of
from station.accounts.api.shapes import InEnvironment

BY_REFERENCE = "By id, or by name; with `environment` where several know the name."


def _within(agent: Agent) -> dict[str, str]:
    """The query that makes a path with the agent's name lead to this one."""
    return {"environment": agent.environment.name}


class Agents(Door):
    """The agents of your environments."""

    @operation(
        "agents_list",
        "List agents",
        tag="agents",
        query=AgentQuery,
        answer=page_of(AgentSerializer),
    )
    def get(self, request: Request) -> Response:
        rows = services.visible(self.principal).only(
            *("id", "name", "description", "enabled", "paused", "created_at"),
            *("max_running", "concurrency_key", "max_running_per_key"),
            *("environment__name", "current_version__number"),
        )
        if (environment_id := self.wanted_environment()) is not None:
            rows = rows.filter(environment_id=environment_id)
        names = ("name", "enabled", "paused")
        exact = {name: self.wanted[name] for name in names if name in self.wanted}
        return self.page(rows.filter(**exact), AgentSerializer)

    @operation(
        "agents_create",
        "Create an agent",
        tag="agents",
        body=NewAgent,
        status=201,
        answer=AgentDetailSerializer,
        problems=[403, 404, 409],
        description="For operators of the environment.",
    )
    def post(self, request: Request) -> Response:
        found = accounts.environment(self.principal, self.given["environment"])
        definition = Definition(**self.given["definition"])
        with below("definition"):
            definition.check()
        row = services.create(
            self.principal,
            environment_id=found.pk,
            name=self.given["name"],
            description=self.given.get("description", ""),
            definition=definition,
        )
        answer = AgentDetailSerializer(row).data
        return self.created(answer, "agent", agent=row.name, query=_within(row))


class OfAgent(Door):
    """What belongs to one agent."""

    def agent(self, reference: str) -> Agent:
        """The visible agent. Raises ``AgentNotFound`` and ``Conflict``."""
        return services.get(self.principal, reference, environment_id=self.wanted_environment())


class OneAgent(OfAgent):
    """An agent."""

    @operation(
        "agents_get",
        "Get an agent",
        tag="agents",
        query=InEnvironment,
        answer=AgentDetailSerializer,
        problems=[404, 409],
        description=BY_REFERENCE,
    )
    def get(self, request: Request, agent: str) -> Response:
        return Response(AgentDetailSerializer(self.agent(agent)).data)

    @operation(
        "agents_change",
        "Enable, disable, pause, resume, describe or cap an agent",
        tag="agents",
        query=InEnvironment,
        body=AgentChange,
        answer=AgentDetailSerializer,
        problems=[403, 404, 409],
        description="Its definition changes by a new version. For operators of its environment. "
        + BY_REFERENCE,
    )
    def patch(self, request: Request, agent: str) -> Response:
        row = changes.update(self.principal, self.agent(agent), **self.given)
        return Response(AgentDetailSerializer(row).data)


class Versions(OfAgent):
    """The versions of an agent."""

    @operation(
        "versions_list",
        "List an agent's versions",
        tag="agents",
        query=VersionQuery,
        answer=page_of(VersionSerializer),
        problems=[404, 409],
        description=BY_REFERENCE,
    )
    def get(self, request: Request, agent: str) -> Response:
        return self.page(self.agent(agent).versions.all(), VersionSerializer)

    @operation(
        "versions_create",
        "Make a definition the agent's current version",
        tag="agents",
        query=InEnvironment,
        body=DefinitionShape,
        status=201,
        answer=VersionSerializer,
        problems=[403, 404, 409],
        description="What is left out has its default, not the value of the version before. A "
        "definition that is the current one already stays the version it is. Runs keep the "
        f"version they were submitted with. For operators of its environment. {BY_REFERENCE}",
    )
    def post(self, request: Request, agent: str) -> Response:
        row = self.agent(agent)
        version = services.add_version(self.principal, row, Definition(**self.given))
        answer = VersionSerializer(version).data
        return self.created(
            answer, "version", agent=row.name, number=version.number, query=_within(row)
        )


class Version(OfAgent):
    """A version of an agent."""

    @operation(
        "versions_get",
        "Get a version of an agent",
        tag="agents",
        query=InEnvironment,
        answer=VersionSerializer,
        problems=[404, 409],
        description=BY_REFERENCE,
    )
    def get(self, request: Request, agent: str, number: int) -> Response:
        row = self.one(self.agent(agent).versions.all(), number=number)
        return Response(VersionSerializer(row).data)
