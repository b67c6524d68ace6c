"""station run events: what happened so far, without waiting for more."""

import json
from collections.abc import Callable

import pytest

from runs.models import Run
from station.core.principal import Principal
from tests import factories
from tests.integration.runs.doubting import doubt
from tests.integration.runs.working import Played
from tests.unit.commands.seats import Outcome

pytestmark = pytest.mark.django_db(transaction=True)
Station = Callable[..., Outcome]


@pytest.fixture
def waiting() -> Run:
    factories.run()
    return doubt()


def test_a_run_in_doubt_is_told_to_where_it_waits(station: Station, waiting: Run) -> None:
    done = station("run", "events", str(waiting.pk))
    assert done.code == 0
    *_, before, first, second = done.out.splitlines()
    assert before.startswith("  waiting   nobody knows whether these calls happened")
    assert [first.split(), second.split()] == [
        ["c1", "s__write", '{"n":', "0}"],
        ["c2", "s__write", '{"n":', "1}"],
    ]
    assert f"`station run decide {waiting.pk} CALL_ID happened|repeat|stop`" in done.err


def test_as_json_an_event_is_a_line_and_pages_join(station: Station, waiting: Run) -> None:
    def read(*words: str) -> list[int]:
        done = station("run", "events", str(waiting.pk), "--json", *words)
        assert done.code == 0
        return [json.loads(line)["seq"] for line in done.out.splitlines()]

    assert read() == [1, 2, 3, 4]
    assert read("--limit", "3") == [1, 2, 3]
    assert read("--after", "3") == [4]
    assert read("--after", "4") == []
    assert read("--after", "1", "--limit", "2") == [2, 3]
    told = station("run", "events", str(waiting.pk), "-n", "3")
    assert told.err == "`--after 3` goes on behind these.\n"


def test_a_long_journal_is_told_whole(station: Station) -> None:
    run = factories.run()
    played = Played()
    for _ in range(250):
        played.answer("On and on.")
    lines = station("run", "events", str(run.pk), "--json").out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, 253))


def test_who_leaves_is_told_no_more(station: Station, waiting: Run) -> None:
    done = station("run", "events", str(waiting.pk), cancelled=lambda: True)
    assert (done.code, done.out) == (130, "")


def test_a_stranger_finds_no_journal(station: Station, waiting: Run) -> None:
    stranger = Principal(kind="user", id="9", label="stranger", user_id=9)
    assert station("run", "events", str(waiting.pk), principal=stranger).code == 3
