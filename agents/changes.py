"""Use cases that change an agent beside its versions."""

from django.db import transaction

from agents.models import Agent
from agents.services import get, switch
from station.accounts.services import store
from station.core.principal import Principal, Role


@transaction.atomic
def update(
    principal: Principal,
    agent: Agent,
    *,
    enabled: bool | None = None,
    paused: bool | None = None,
    description: str | None = None,
) -> Agent:
    """Enable, disable, pause, resume, describe. For operators of the agent's environment."""
    principal.require(Role.OPERATOR, agent.environment_id)
    if description is not None:
        row = Agent.objects.select_for_update(no_key=True).get(pk=agent.pk)
        row.description = description
        store(row, taken=f"There is an agent {row.name!r} in this environment already.")
    if enabled is None and paused is None:
        return get(principal, agent.pk)
    return switch(principal, agent, enabled=enabled, paused=paused)
