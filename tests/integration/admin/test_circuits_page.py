"""The page of model providers that failed of late."""

import pytest
from django.utils import timezone

from runs.models import Circuit
from station.accounts.admin.base import row_url
from tests.integration.admin.conftest import Visitor
from tests.integration.admin.pages import text_of

pytestmark = pytest.mark.django_db


def test_it_tells_an_open_circuit_from_one_that_counts(visit: Visitor) -> None:
    now = timezone.now()
    known = {"serves_unnamed": True, "serves_default": True, "failed_at": now}
    Circuit.objects.create(provider="openai", failures=2, problem="It hung up.", **known)
    down = Circuit.objects.create(
        provider="gemini", failures=5, problem="It is on fire.", retry_at=now, **known
    )
    page = text_of(visit("platform"), "/admin/runs/circuit/")
    for said in ("openai", "counting", "It hung up.", "gemini", "open", f"{now:%H:%M:%S} UTC"):
        assert said in page
    assert "It is on fire." in text_of(visit("viewer"), row_url(down))
