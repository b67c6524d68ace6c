"""Use cases of one environment: change it, see its members."""

from django.db import models, transaction

from station.accounts.models import Environment, Membership
from station.accounts.services import store
from station.core.principal import Principal, Role


@transaction.atomic
def update(
    principal: Principal,
    environment_id: int,
    *,
    paused: bool | None = None,
    description: str | None = None,
) -> Environment:
    """Pause, resume, describe. For admins of the environment.

    A paused environment accepts runs and starts none; running ones go on.
    """
    principal.require(Role.ADMIN, environment_id)
    row = Environment.objects.select_for_update(no_key=True).get(pk=environment_id)
    if paused is not None:
        row.paused = paused
    if description is not None:
        row.description = description
    store(row, taken=f"There is an environment {row.name!r} already.")
    return row


def members(principal: Principal, environment_id: int) -> models.QuerySet[Membership]:
    """Who has which role in the environment. For its members."""
    principal.require(Role.VIEWER, environment_id)
    return Membership.objects.filter(environment_id=environment_id).select_related(
        "user", "environment"
    )
