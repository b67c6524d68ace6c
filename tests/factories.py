"""Rows that tests need, made the way users make them: through the services."""

import itertools
from typing import Any

from django.utils import timezone

from agents import services as agents
from agents.models import Agent
from runs import services as runs
from runs.models import Circuit, Run
from station.accounts import services as accounts
from station.accounts.models import Environment
from station.core.principal import Principal, system

OPERATOR = system("tests")
_numbers = itertools.count(1)


def environment(name: str = "") -> Environment:
    return accounts.create_environment(OPERATOR, name=name or f"env-{next(_numbers)}")


def agent(
    where: Environment | None = None, name: str = "", *, prompt: str = "You help.", **changes: Any
) -> Agent:
    """An agent; ``changes`` go into its definition."""
    return agents.create(
        OPERATOR,
        environment_id=(where or environment()).pk,
        name=name or f"agent-{next(_numbers)}",
        definition=agents.Definition(prompt=prompt, **changes),
    )


def run(
    of: Agent | None = None, task: str = "Do it.", *, by: Principal = OPERATOR, **request: Any
) -> Run:
    """A queued run."""
    return runs.submit(by, of or agent(), runs.Request(input=task, data={}, **request))


def circuit(provider: str, *, down: bool = False) -> Circuit:
    """What is known of a model provider that failed of late; asked again by then if ``down``."""
    now = timezone.now()
    return Circuit.objects.create(
        provider=provider,
        serves_unnamed=True,
        serves_default=True,
        failures=5 if down else 2,
        failed_at=now,
        retry_at=now if down else None,
        problem=f"{provider} is on fire.",
    )
