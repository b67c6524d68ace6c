"""A circuit breaker per model provider, shared by all workers through PostgreSQL.

Failures of a provider in a row, whoever met them, open its circuit: nobody asks it any more, and
runs that need it go back to the queue, where they hold no worker and use up nothing. When the
pause is over, one run of all tries: its success closes the circuit, its failure opens it again for
twice as long. An answer of any kind, even a refusal, shows that the provider is there.
"""

import contextlib
import time
from collections.abc import Mapping
from functools import partial

import structlog
from django.db import InterfaceError, OperationalError, connection

from runs.database import Units
from runs.models import Circuit
from runs.ports import Admission

_log = structlog.get_logger(__name__)
_IN_A_ROW_WITHIN = 60.0
"""Seconds, at least, after which an earlier failure has nothing to do with the present one."""
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0
_FRESH = 2.0
_LOOK_AGAIN = 3.0
"""Seconds after which a run comes back that found another one trying."""

_LEFT = "extract(epoch FROM c.retry_at - clock_timestamp())"
_ALL = f"SELECT c.provider, {_LEFT} FROM model_circuits c"  # noqa: S608 - constants
_OPENS = """coalesce(
    c.retry_at <= clock_timestamp() OR (
      c.retry_at IS NULL AND c.failures + 1 >= %(most)s
      AND c.failed_at > clock_timestamp() - make_interval(secs => %(row)s)
    ), false)"""
_FAILED = f"""
    INSERT INTO model_circuits AS c
           (provider, serves_unnamed, serves_default, failures, failed_at, pauses, problem,
            retry_at)
    VALUES (%(provider)s, %(unnamed)s, %(default)s, 1, clock_timestamp(), (%(most)s <= 1)::int,
            %(problem)s,
            CASE WHEN %(most)s <= 1 THEN clock_timestamp() + make_interval(secs => %(first)s) END)
    ON CONFLICT (provider) DO UPDATE SET
      failures = CASE WHEN c.retry_at IS NULL
                       AND c.failed_at < clock_timestamp() - make_interval(secs => %(row)s)
                      THEN 1 ELSE c.failures + 1 END,
      failed_at = clock_timestamp(),
      problem = excluded.problem,
      pauses = c.pauses + ({_OPENS})::int,
      probing_until = CASE WHEN {_OPENS} THEN NULL ELSE c.probing_until END,
      retry_at = CASE WHEN {_OPENS} THEN clock_timestamp() + make_interval(
                   secs => least(%(longest)s, %(first)s * power(2, least(c.pauses, 20))))
                 ELSE c.retry_at END
    RETURNING {_LEFT}
"""  # noqa: S608 - constants
_TRY = """
    UPDATE model_circuits SET probing_until = clock_timestamp() + make_interval(secs => %s)
     WHERE provider = %s AND retry_at <= clock_timestamp()
       AND (probing_until IS NULL OR probing_until <= clock_timestamp())
"""

_FORGOTTEN_AFTER = 3600.0
_FORGET = """
    DELETE FROM model_circuits
     WHERE greatest(failed_at, retry_at, probing_until)
           < clock_timestamp() - make_interval(secs => %s)
"""


class Circuits:
    """What one process knows of the circuits, at most two seconds old; one for an event loop."""

    def __init__(
        self,
        units: Units,
        *,
        failures: int,
        provider: str,
        model: str,
        request_timeout: float = 0.0,
    ) -> None:
        """``failures`` in a row open a circuit; 0: never.

        ``provider`` is the configured one and ``model`` the model of agents that name none. A
        failure takes up to ``request_timeout`` seconds, so those in a row may be that far apart.
        """
        self._units, self._failures = units, failures
        self._in_a_row_within = max(_IN_A_ROW_WITHIN, 2 * request_timeout)
        self._unnamed = provider
        prefix, slash, _ = model.partition("/")
        self._default = prefix if slash else provider
        self._known: dict[str, float | None] = {}
        """Providers that failed, as last heard, and the monotonic end of their pause, if any."""
        self._looked = float("-inf")

    async def admit(self, provider: str, *, patience: float) -> Admission:
        """Whether to ask it now.

        Who is admitted when a pause is over is the only one until it has told how it went, or
        ``patience`` seconds have passed.
        """
        if not self._failures:
            return Admission()
        if time.monotonic() - self._looked > _FRESH:
            await self._look()
        left = self._left(provider)
        if left is None or left > 0:
            return Admission(wait=left)
        if await self._units.run(partial(_try, provider, patience)):
            _log.info("model_circuit_tried", provider=provider)
            return Admission(trial=True)
        await self._look()  # somebody else tries, or has tried already
        left = self._left(provider)
        return Admission(wait=None if left is None else max(left, _LOOK_AGAIN))

    async def withdraw(self, provider: str) -> None:
        """Who was admitted to try has not learned anything: another one may."""
        with contextlib.suppress(OperationalError, InterfaceError):  # they may once it had its time
            await self._units.run(partial(_withdraw, provider), patience=1.0)

    async def _look(self) -> None:
        self._looked = time.monotonic()
        self._known = await self._units.run(_all)

    def _left(self, provider: str) -> float | None:
        """Seconds until the pause is over, 0 or less behind it; ``None``: there is none."""
        until = self._known.get(provider)
        return None if until is None else until - time.monotonic()

    async def failed(self, provider: str, problem: str) -> float | None:
        """Count a failure; the seconds of the pause, if the circuit is open now."""
        if not self._failures:
            return None
        parameters: dict[str, str | float] = {
            "provider": provider,
            "problem": problem,
            "unnamed": provider == self._unnamed,
            "default": provider == self._default,
            "most": self._failures,
            "row": self._in_a_row_within,
            "first": _FIRST_PAUSE,
            "longest": _LONGEST_PAUSE,
        }
        left = await self._units.run(partial(_failed, parameters))
        self._known[provider] = None if left is None else time.monotonic() + left
        if left is not None:
            _log.warning("model_circuit_open", provider=provider, problem=problem, seconds=left)
        return left

    async def succeeded(self, provider: str) -> None:
        """The provider answered: its circuit, if it has one, is closed and forgotten."""
        if provider in self._known:
            until = self._known.pop(provider)
            await self._units.run(Circuit.objects.filter(provider=provider).delete)
            if until is not None:
                _log.info("model_circuit_closed", provider=provider)


def forget_past() -> None:
    """Drop what is known of providers that nobody has asked for a long time."""
    with connection.cursor() as cursor:
        cursor.execute(_FORGET, [_FORGOTTEN_AFTER])


def _all() -> dict[str, float | None]:
    with connection.cursor() as cursor:
        cursor.execute(_ALL)
        rows = cursor.fetchall()
    now = time.monotonic()
    return {provider: None if left is None else now + float(left) for provider, left in rows}


def _try(provider: str, patience: float) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_TRY, [patience, provider])
        return bool(cursor.rowcount)


def _withdraw(provider: str) -> None:
    Circuit.objects.filter(provider=provider).update(probing_until=None)


def _failed(parameters: Mapping[str, str | float]) -> float | None:
    with connection.cursor() as cursor:
        cursor.execute(_FAILED, parameters)
        (left,) = cursor.fetchone()
    return None if left is None else max(float(left), 0.0)
