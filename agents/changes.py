"""Use cases that change an agent beside its versions."""

import re

from django.db import transaction

from agents.models import Agent
from agents.services import visible
from station.accounts.environments import check_cap
from station.accounts.services import store
from station.core.errors import InvalidInput
from station.core.principal import Principal, Role
from station.core.unchanged import UNCHANGED, Unchanged

_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_LONGEST_KEY = 200


@transaction.atomic
def update(
    principal: Principal,
    agent: Agent,
    *,
    enabled: bool | None = None,
    paused: bool | None = None,
    description: str | None = None,
    max_running: int | Unchanged | None = UNCHANGED,
    concurrency_key: str | None = None,
    max_running_per_key: int | None = None,
) -> Agent:
    """Enable, disable, pause, resume, describe, cap. For operators of the agent's environment.

    ``max_running`` ``None`` lifts that cap; a lower cap stops nothing that runs already.
    ``concurrency_key`` "" lifts the cap by key for runs that are submitted from then on: those
    that are queued keep the key's value they were submitted with.

    Raises:
        InvalidInput: a cap is less than 1, or the key is no path.
    """
    principal.require(Role.OPERATOR, agent.environment_id)
    check_cap("max_running", max_running)
    check_cap("max_running_per_key", max_running_per_key)
    if concurrency_key:
        _check_key(concurrency_key)
    row = Agent.objects.select_for_update(no_key=True).get(pk=agent.pk)
    if max_running is not UNCHANGED:
        row.max_running = max_running
    wanted = {
        "enabled": enabled,
        "paused": paused,
        "description": description,
        "concurrency_key": concurrency_key,
        "max_running_per_key": max_running_per_key,
    }
    for name, value in wanted.items():
        if value is not None:
            setattr(row, name, value)
    store(row, taken=f"There is an agent {row.name!r} in this environment already.")
    return visible(principal).get(pk=agent.pk)


def _check_key(path: str) -> None:
    if len(path) > _LONGEST_KEY:
        raise InvalidInput("concurrency_key", f"is longer than {_LONGEST_KEY} characters")
    if not _KEY.fullmatch(path):
        raise InvalidInput(
            "concurrency_key",
            f"{path!r} is no path into a run's data",
            fix="Write names with dots between them, like customer.id.",
        )
