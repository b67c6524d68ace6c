"""The page of model providers that failed of late."""

import pytest

from runs.models import Circuit
from station.accounts.admin.base import row_url
from tests import factories
from tests.integration.admin.conftest import Visitor
from tests.integration.admin.pages import text_of

pytestmark = pytest.mark.django_db


def test_it_tells_an_open_circuit_from_one_that_counts(visit: Visitor) -> None:
    counted, down = factories.circuit("openai"), factories.circuit("gemini", down=True)
    page = text_of(visit("platform"), "/admin/runs/circuit/")
    for said in ("openai", "counting", counted.problem, "gemini", "open", _again(down)):
        assert said in page
    assert down.problem in text_of(visit("viewer"), row_url(down))


def test_the_first_page_names_providers_that_are_down_and_no_others(visit: Visitor) -> None:
    factories.circuit("openai")
    down = factories.circuit("gemini", down=True)
    page = text_of(visit("viewer"), "/admin/")
    for said in ("Model provider", ">gemini<", down.problem, _again(down)):
        assert said in page
    assert "openai" not in page


def _again(circuit: Circuit) -> str:
    return f"{circuit.retry_at:%H:%M:%S} UTC"
