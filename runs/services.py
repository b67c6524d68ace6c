"""Use cases of runs: submit, look up, retry, cancel. Every door calls these."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import IntegrityError, models, transaction
from django.db.models.functions import Now

from agents import services as agents
from agents.errors import AgentDisabled
from agents.models import Agent
from runs import bus, journal, lanes, queue, transitions
from runs.bell import ring_after_commit
from runs.entries import Entry, Event, Kind
from runs.errors import IdempotencyKeyReused, NotFinished, RunFinished, RunNotFound
from runs.models import Run, RunEvent, Submission
from runs.states import LIVE
from station.accounts.services import id_in
from station.config import current
from station.core import faults
from station.core.errors import Forbidden, InputTooLarge, InvalidInput
from station.core.principal import Principal, Role
from station.core.storable import check_json, check_text

_LARGEST_INPUT = 1024 * 1024
_LONGEST_TIMEOUT = 7 * 24 * 3600.0
_PRIORITIES = range(-100, 101)
_KEY_LENGTH = range(1, 256)
_LONGEST_KEY = 200
_ENDED_TOGETHER = 200
KEYS_KEPT = timedelta(hours=24)
"""How long an Idempotency-Key stands for its run, by the database's clock."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a run is to do. ``timeout`` and ``queue_timeout`` are seconds."""

    input: str
    data: Mapping[str, Any]
    priority: int = 0
    timeout: float | None = None
    queue_timeout: float | None = None

    def check(self) -> None:
        """Raise :class:`InvalidInput` naming the first field that cannot work."""
        if not self.input.strip() and not self.data:
            raise InvalidInput("input", "is empty", fix="Say what the agent is to do.")
        check_json("data", self.data, texts=False)  # texts are cleaned when they are stored
        for field, size in (
            ("input", len(self.input.encode(errors="replace"))),
            ("data", len(json.dumps(self.data))),
        ):
            if size > _LARGEST_INPUT:
                raise InputTooLarge(
                    field,
                    f"has {size} bytes; at most {_LARGEST_INPUT} are accepted",
                    fix="Put the material where a tool can read it, and pass a reference.",
                )
        if self.priority not in _PRIORITIES:
            raise InvalidInput("priority", f"{self.priority} is not within -100 to 100")
        for field, seconds in (("timeout", self.timeout), ("queue_timeout", self.queue_timeout)):
            if seconds is not None and not 0 < seconds <= _LONGEST_TIMEOUT:
                raise InvalidInput(field, "must be more than 0 s and at most 7 days")

    def digest(self, agent_id: int, retry_of: int | None) -> str:
        """The request's fingerprint, for telling a repetition from a different request."""
        parts = [
            agent_id, self.input, self.data, self.priority, self.timeout, self.queue_timeout
        ]  # fmt: skip
        if retry_of is not None:
            parts.append(retry_of)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def submit(
    principal: Principal,
    agent: Agent,
    request: Request,
    *,
    idempotency_key: str | None = None,
    request_id: str = "",
    retry_of: int | None = None,
) -> Run:
    """Store a queued run, and ring after the commit. For operators of the agent's environment.

    With an ``idempotency_key`` the same request by the same principal is stored once within 24
    hours; repetitions get the run of the first, also when a new one would be refused by now.

    Raises:
        AgentDisabled: the agent accepts no runs.
        InvalidInput: a field of the request cannot work.
        QueueFull: as many runs are queued as the configuration admits.
        IdempotencyKeyReused: the key stands for a different request.
    """
    principal.require(Role.OPERATOR, agent.environment_id)
    request.check()
    new = partial(_store, principal, agent, request, request_id=request_id, retry_of=retry_of)
    if idempotency_key is None:
        with transaction.atomic():
            return new()
    check_text("idempotency_key", idempotency_key)
    if len(idempotency_key) not in _KEY_LENGTH:
        raise InvalidInput("idempotency_key", "must have 1 to 255 characters")
    return _once(principal, agent, request.digest(agent.pk, retry_of), idempotency_key, new)


def retry(
    principal: Principal, run: Run, *, idempotency_key: str | None = None, request_id: str = ""
) -> Run:
    """A new run of the same request with the agent's present version, linked to this one.

    For operators of the run's environment. ``idempotency_key`` as in :func:`submit`.

    Raises:
        NotFinished: the run has not ended.
        AgentDisabled: the agent accepts no runs.
    """
    principal.require(Role.OPERATOR, run.environment_id)
    if not run.is_terminal:
        raise NotFinished(
            f"Run {run.pk} is {run.status}; only a run that has ended can be retried.",
            fix="Cancel it first.",
        )
    request = Request(input=run.input, data=run.data, priority=run.priority, timeout=run.timeout)
    agent = agents.visible(principal).get(pk=run.agent_id)
    with transaction.atomic():
        return submit(
            principal,
            agent,
            request,
            idempotency_key=idempotency_key,
            request_id=request_id,
            retry_of=run.pk,
        )


def visible(principal: Principal) -> models.QuerySet[Run]:
    """Runs of the environments the principal is a member of, newest first."""
    rows = Run.objects.select_related("agent", "environment", "version")
    return rows if principal.platform_admin else rows.filter(environment_id__in=principal.roles)


def get(principal: Principal, run_id: int | str) -> Run:
    """The run with that id. Raises :class:`RunNotFound`."""
    pk = id_in(run_id)
    run = None if pk is None else visible(principal).filter(pk=pk).first()
    if run is None:
        raise RunNotFound(
            f"There is no run {str(run_id)!r} that you may see.",
            fix="`station run list` shows them.",
        )
    return run


def events(principal: Principal, run_id: int | str) -> models.QuerySet[RunEvent]:
    """The journal of a visible run, in order. Raises :class:`RunNotFound`."""
    return RunEvent.objects.filter(run_id=get(principal, run_id).pk).order_by("seq")


def cancel(principal: Principal, run: Run) -> Run:
    """End a run. Queued and waiting ones end now; a running one is told to stop.

    Asking again while it is stopping is no error. For operators of the run's environment.

    Raises:
        RunFinished: it has ended already.
    """
    principal.require(Role.OPERATOR, run.environment_id)
    ended = _end([run.pk], principal.label)
    run = get(principal, run.pk)
    if not ended and run.is_terminal:
        raise RunFinished(f"Run {run.pk} has ended already: {run.status}.")
    return run


def cancel_many(principal: Principal, rows: models.QuerySet[Run], *, limit: int = 10_000) -> int:
    """Cancel those of the visible ``rows`` that go on, oldest first; how many there were.

    What ends or is cancelled meanwhile is left out. At most ``limit`` are cancelled; ask again for
    the rest. For operators of every environment concerned; otherwise nothing is cancelled.
    """
    live = unfinished(rows)
    concerned = live.order_by().values_list("environment_id", "environment__name").distinct()
    for environment_id, name in concerned:
        held = principal.role_in(environment_id)
        if held is None or held < Role.OPERATOR:
            raise Forbidden(
                f"Some of these runs are in environment {name!r}, where {principal.label} is no "
                "operator. Nothing is cancelled.",
                fix="Leave that environment out, or ask an admin of it for the role.",
            )
    if not principal.platform_admin:  # a run of another environment may have come meanwhile
        mine = [e for e, role in principal.roles.items() if role >= Role.OPERATOR]
        live = live.filter(environment_id__in=mine)
    chosen = list(live.order_by("pk").values_list("pk", flat=True)[:limit])
    return sum(
        _end(chosen[first : first + _ENDED_TOGETHER], principal.label)
        for first in range(0, len(chosen), _ENDED_TOGETHER)
    )


def unfinished(rows: models.QuerySet[Run]) -> models.QuerySet[Run]:
    """Those of ``rows`` that have neither ended nor been told to stop."""
    live = [status.value for status in LIVE]  # what is not ended, in words that fit an index
    return rows.filter(status__in=live, cancel_requested_at=None)


def _end(run_ids: Sequence[int], by: str) -> int:
    """End idle runs, and tell running ones to stop; how many that could be done to."""
    left = list(run_ids)
    news: dict[int, Event] = {}
    for _ in range(3):  # one may be handed back between the two statements
        moved = [*transitions.cancel_idle(left, by), *transitions.request_cancel(left, by)]
        news |= {each.run_id: each.event for each in moved}
        left = [run_id for run_id in left if run_id not in news]
        if not left:
            break
    if news:
        transaction.on_commit(partial(bus.announce, news, cancelled=True), robust=True)
    return len(news)


def _once(principal: Principal, agent: Agent, digest: str, key: str, new: Callable[[], Run]) -> Run:
    """The run that ``key`` stands for, made by ``new`` when it stands for none yet."""
    named = {
        "environment_id": agent.environment_id,
        "principal": f"{principal.kind}:{principal.id}",
        "key": key,
    }
    mine = Submission.objects.filter(**named)
    with transaction.atomic():
        mine.filter(created_at__lt=Now() - KEYS_KEPT).delete()
        while True:
            try:
                with transaction.atomic():
                    submission = Submission.objects.create(**named, digest=digest)
                break
            except IntegrityError:
                earlier = mine.first()
            if earlier is None:
                continue  # the keeper forgot it in this very moment
            if earlier.digest != digest or earlier.run_id is None:
                raise IdempotencyKeyReused(
                    "idempotency_key",
                    f"{key!r} was used for a different request",
                    fix="Use a new key for a new request.",
                )
            return visible(principal).get(pk=earlier.run_id)
        run = new()
        Submission.objects.filter(pk=submission.pk).update(run=run)
    return run


def _concurrency_key(agent: Agent, data: Mapping[str, Any]) -> str:
    """The value that the agent's concurrency key has in ``data``, as text; "" without a key."""
    if not agent.concurrency_key:
        return ""
    value: Any = data
    for name in agent.concurrency_key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise InvalidInput(
            f"data.{agent.concurrency_key}",
            "must be a text or a whole number",
            fix=f"Agent {agent.name!r} caps its runs by this value.",
        )
    text = journal.storable(str(value))
    if len(text) <= _LONGEST_KEY:
        return text
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _store(
    principal: Principal,
    agent: Agent,
    request: Request,
    *,
    request_id: str,
    retry_of: int | None,
) -> Run:
    version = agent.current_version
    if not agent.enabled or version is None:
        raise AgentDisabled(
            f"Agent {agent.name!r} is disabled and accepts no runs.",
            fix="Enable it first: `station agent enable`.",
        )
    concurrency_key = _concurrency_key(agent, request.data)
    queue.check_room()
    run = Run(
        environment=agent.environment,
        agent=agent,
        version=version,
        input=journal.storable(request.input),
        data=json.loads(journal.dump(request.data)),
        priority=request.priority,
        timeout=request.timeout or version.timeout or current().execution_queue.timeout,
        submitted_by=principal.label[:200],
        submitter_kind=principal.kind,
        submitter_id=principal.id,
        request_id=request_id[:64],
        concurrency_key=concurrency_key,
        behind=lanes.is_behind(agent.pk, concurrency_key, request.priority),
        retry_of_id=retry_of,
        last_seq=1,
    )
    if request.queue_timeout is not None:
        # By the database's clock, which decides whether it has passed.
        run.queue_deadline = Now() + timedelta(seconds=request.queue_timeout)
    run.save(force_insert=True)
    if request.queue_timeout is not None:
        run.refresh_from_db(fields=["queue_deadline"])
    entry = Entry(kind=Kind.SUBMITTED, payload={"by": principal.label, "door": principal.kind})
    RunEvent.objects.create(
        id=entry.id, run=run, seq=1, kind=entry.kind.value, payload=dict(entry.payload)
    )
    transaction.on_commit(lambda: faults.point("after-submit"))
    ring_after_commit()
    return run
