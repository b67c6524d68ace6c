"""Use cases of one environment: change it, see its members."""

from django.db import models, transaction

from station.accounts import pausing
from station.accounts.models import Environment, Membership
from station.accounts.services import store
from station.core.errors import InvalidInput
from station.core.principal import Principal, Role
from station.core.unchanged import UNCHANGED, Unchanged

_LARGEST_CAP = 1_000_000


@transaction.atomic
def update(
    principal: Principal,
    environment_id: int,
    *,
    paused: bool | None = None,
    description: str | None = None,
    max_running: int | Unchanged | None = UNCHANGED,
) -> Environment:
    """Pause, resume, describe, cap. For admins of the environment.

    A paused environment accepts runs and starts none; running ones go on. Resumed while the whole
    queue is paused, it starts runs when that is over (:mod:`station.accounts.pausing`).
    ``max_running`` ``None`` lifts the cap; a lower one stops nothing that runs already.

    Raises:
        InvalidInput: the cap is less than 1.
    """
    principal.require(Role.ADMIN, environment_id)
    check_cap("max_running", max_running)
    all_paused = False if paused is None else pausing.locked_switch().paused
    row = Environment.objects.select_for_update(no_key=True).get(pk=environment_id)
    if paused is not None:
        row.paused_itself, row.paused = paused, paused or all_paused
    if description is not None:
        row.description = description
    if max_running is not UNCHANGED:
        row.max_running = max_running
    store(row, taken=f"There is an environment {row.name!r} already.")
    return row


def check_cap(field: str, value: int | Unchanged | None) -> None:
    """Raise :class:`InvalidInput` unless ``value`` can be the most runs at once of something."""
    if isinstance(value, int) and not 1 <= value <= _LARGEST_CAP:
        raise InvalidInput(
            field, f"must be 1 to {_LARGEST_CAP}", fix="To start no runs at all, pause instead."
        )


def members(principal: Principal, environment_id: int) -> models.QuerySet[Membership]:
    """Who has which role in the environment. For its members."""
    principal.require(Role.VIEWER, environment_id)
    return Membership.objects.filter(environment_id=environment_id).select_related(
        "user", "environment"
    )
