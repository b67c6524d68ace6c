"""The switch of the whole queue, beside those of single environments.

What the claim looks at is ``Environment.paused``, and that is kept to what both switches say: an
environment is paused while it is paused itself or the whole queue is. So a pause of all holds for
environments that are made meanwhile, and its end leaves those paused that were paused singly.
"""

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from station.accounts.models import Environment, QueueSwitch
from station.core.principal import Principal

_ONLY = 1


def queue_switch() -> QueueSwitch:
    """How the switch of the whole queue stands."""
    return QueueSwitch.objects.filter(pk=_ONLY).first() or QueueSwitch(pk=_ONLY)


def locked_switch() -> QueueSwitch:
    """The switch, for the rest of the transaction: lock it before any environment."""
    QueueSwitch.objects.get_or_create(pk=_ONLY)
    return QueueSwitch.objects.select_for_update().get(pk=_ONLY)


@transaction.atomic
def pause_queue(principal: Principal) -> QueueSwitch:
    """Start no run in any environment, present or to come; running ones go on.

    For platform admins. Paused again, it stays as it was paused first.
    """
    principal.require_platform_admin()
    switch = locked_switch()
    if not switch.paused:
        switch.paused, switch.by, switch.since = True, principal.label[:200], timezone.now()
        switch.save()
    Environment.objects.filter(paused=False).update(paused=True)
    return switch


@transaction.atomic
def resume_queue(principal: Principal) -> QueueSwitch:
    """Start runs again, but in environments that are paused themselves. For platform admins."""
    principal.require_platform_admin()
    switch = locked_switch()
    switch.paused, switch.by, switch.since = False, "", None
    switch.save()
    Environment.objects.exclude(paused=F("paused_itself")).update(paused=F("paused_itself"))
    return switch
