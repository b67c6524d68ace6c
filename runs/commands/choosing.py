"""The options that say which runs, of commands that list and cancel them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import click
from django.db import models

from agents.commands import find
from runs import services
from runs.filters import Filters
from runs.models import Run
from runs.states import Status
from station.accounts.commands.environments import environment_id
from station.commands import Session, environment_option
from station.commands.options import F, Moment


def filters(function: F) -> F:
    """The options that say which runs; :func:`chosen` takes their values."""
    options: list[Callable[[Any], Any]] = [
        environment_option(),
        click.option("--agent", help="Of this agent, by name or id."),
        click.option(
            "--status",
            "statuses",
            type=click.Choice([status.value for status in Status]),
            multiple=True,
            help="In this status. May be repeated.",
        ),
        click.option("--since", type=Moment(), help="Submitted since: 1h ago, or a time."),
        click.option("--until", type=Moment(), help="Submitted before: 1h ago, or a time."),
        click.option("--submitted-by", metavar="NAME", help="By this submitter, as runs show it."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def chosen(
    session: Session,
    *,
    env: str | None,
    agent: str | None,
    statuses: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    submitted_by: str | None,
) -> models.QuerySet[Run]:
    wanted = Filters(
        environment_id=None if env is None else environment_id(session, env),
        agent_id=None if agent is None else find(session, agent, env).pk,
        statuses=statuses,
        created_after=since,
        created_before=until,
        submitted_by=submitted_by,
    )
    return wanted.narrow(services.visible(session.principal))
