"""Repeating a request with an idempotency key at the shell."""

from collections.abc import Callable
from typing import Any

import pytest

from runs.models import Run
from tests import factories
from tests.integration.runs.doubting import doubt
from tests.integration.runs.working import Played
from tests.unit.commands.seats import Outcome

pytestmark = pytest.mark.django_db(transaction=True)
Station = Callable[..., Outcome]
Parsed = Callable[..., Any]
RUN = ("agent", "run", "helper", "Do it.", "--idempotency-key", "k")


def test_a_retry_with_a_key_is_made_once(station: Station, parsed: Parsed) -> None:
    run = factories.run()
    Played().finish()
    words = ("run", "retry", str(run.pk), "--idempotency-key", "k")
    first, again = (parsed(*words)["id"] for _ in range(2))
    assert first == again
    assert parsed("run", "retry", str(run.pk))["id"] != first
    other = station("agent", "run", str(run.agent_id), "x", "--idempotency-key", "k")
    assert (other.code, "Error: --idempotency-key: 'k' was used" in other.err) == (2, True)


def test_a_repetition_tells_how_its_run_stands(station: Station) -> None:
    factories.agent(name="helper")
    first = station(*RUN)
    assert "is queued" in first.out
    assert "No worker is running" in first.err
    run = doubt()
    waiting = station(*RUN)
    assert waiting.out == f"Run {run.pk} of agent helper is waiting.\n"
    assert waiting.err == f"`station run follow {run.pk}` follows it.\n"
    station("run", "cancel", str(run.pk))
    assert station(*RUN).err == ""
    assert Run.objects.count() == 1


def test_a_repeated_retry_tells_how_its_run_stands(station: Station) -> None:
    run = factories.run()
    Played().finish()
    words = ("run", "retry", str(run.pk), "--idempotency-key", "k")
    assert "No worker is running" in station(*words).err
    played = Played()
    assert station(*words).err == f"`station run follow {played.run_id}` follows it.\n"
    played.finish()
    assert station(*words).err == ""
