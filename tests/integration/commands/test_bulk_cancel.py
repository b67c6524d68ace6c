"""run cancel by filters: whose runs, and what an interruption leaves."""

import io
from collections.abc import Callable
from typing import Any

import pytest

from runs import services
from runs.commands import cancelling
from runs.models import Run
from station.commands import Session, invoke
from station.core.principal import Principal, Role, system
from tests import factories
from tests.unit.commands.seats import Outcome

pytestmark = pytest.mark.django_db(transaction=True)
Station = Callable[..., Outcome]
Parsed = Callable[..., Any]


def test_runs_are_listed_and_cancelled_by_who_submitted_them(
    station: Station, parsed: Parsed
) -> None:
    agent = factories.agent()
    mine = factories.run(agent, by=system("me"))
    other = factories.run(agent, by=system("other"))
    listed = parsed("run", "list", "--submitted-by", "me")
    assert [run["id"] for run in listed] == [mine.pk]
    assert parsed("run", "cancel", "--submitted-by", "me", "--yes") == {"cancelled": 1}
    other.refresh_from_db()
    assert other.status == "queued"


class Leaving:
    """Someone who presses Ctrl-C after the first batch."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked > 1


def test_an_interruption_says_what_is_left(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancelling, "_AT_A_TIME", 2)
    agent = factories.agent()
    for _ in range(5):
        factories.run(agent)
    done = station("run", "cancel", "--status", "queued", "--yes", cancelled=Leaving())
    assert (done.code, done.out) == (130, "2 runs cancelled or told to stop.\n")
    assert "3 runs are left" in done.err
    assert Run.objects.filter(status="queued").count() == 3


def test_an_interruption_that_comes_too_late_is_none(station: Station) -> None:
    factories.run()
    done = station("run", "cancel", "--status", "queued", "--yes", cancelled=Leaving())
    assert (done.code, done.err) == (0, "")


def test_ctrl_c_says_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "_AT_A_TIME", 1)
    agent = factories.agent()
    for _ in range(3):
        factories.run(agent)

    def pressed() -> bool:
        if Run.objects.filter(status="queued").count() < 3:
            raise KeyboardInterrupt
        return False

    out, err = io.StringIO(), io.StringIO()
    session = Session(principal=system("cli:me"), stdout=out, stderr=err, cancelled=pressed)
    assert invoke(["run", "cancel", "--status", "queued", "--yes"], session) == 130
    assert "2 runs are left" in err.getvalue()


def test_a_refusal_names_the_environment(station: Station) -> None:
    run = factories.run()
    viewer = Principal(
        kind="user", id="1", label="vera", user_id=1, roles={run.environment_id: Role.VIEWER}
    )
    done = station("run", "cancel", "--status", "queued", "--yes", principal=viewer)
    assert (done.code, repr(run.environment.name) in done.err) == (4, True)
    assert services.unfinished(Run.objects.all()).exists()
