"""The plugin that gives test sessions their services, run on sessions of its own."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest
import redis

from station.embedded.site import ORIGIN, SHARED_PLACES
from tests import stack
from tests.integration.embedded.watching import eventually, family, living, written

REPOSITORY = Path(__file__).parents[3]
INI = """
[pytest]
addopts = -p tests.stack -p no:django -p no:cacheprovider -q
filterwarnings = error
asyncio_default_fixture_loop_scope = function
"""
TESTS = """
import os, time
import psycopg, pytest, redis
from tests import stack

@pytest.mark.parametrize("number", range(8))
def test_it(number):
    assert os.environ["STN_DATABASE_URL"] == stack.services.database_url
    assert "STN_LEFT_OVER" not in os.environ
    assert len(bytes.fromhex(os.environ["STN_ENCRYPTION_KEY"])) == 32
    assert os.path.isdir(os.environ["STN_DATA_DIR"])
    psycopg.connect(stack.services.database_url).close()
    with redis.Redis.from_url(stack.services.redis_url) as client:
        client.ping()
    with open(os.environ["NOTES"], "a") as notes:
        url, _, database = stack.services.redis_url.rpartition("/")
        worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
        notes.write(f"{worker} {database} {url} {stack.services.root}\\n")
    time.sleep(float(os.environ["LINGER"]))
"""


@pytest.fixture
def session(tmp_path: Path) -> list[str]:
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "test_inner.py").write_text(TESTS)
    return [
        *(sys.executable, "-m", "pytest", "-c", str(tmp_path / "pytest.ini")),
        *("--rootdir", str(tmp_path), str(tmp_path / "test_inner.py")),
    ]


def environment(tmp_path: Path, *, linger: float) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("STN_", "PYTEST_"))}
    return {
        **kept,
        "PYTHONPATH": str(REPOSITORY),
        "TMPDIR": tempfile.mkdtemp(dir=stack.new_folder()),
        "STN_LEFT_OVER": "1",
        "NOTES": str(tmp_path / "notes"),
        "LINGER": str(linger),
    }


def elsewhere(folder: str) -> list[str]:
    """Data of the folder's services that root had to put outside of it."""
    origins = [origin for place in SHARED_PLACES for origin in place.glob(f"*/{ORIGIN}")]
    return [text for origin in origins if (text := origin.read_text()).startswith(folder)]


def notes(tmp_path: Path) -> list[list[str]]:
    return [line.split() for line in written(tmp_path / "notes").splitlines()]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_session_has_one_stack_and_leaves_nothing(
    session: list[str], tmp_path: Path, workers: int
) -> None:
    inner = environment(tmp_path, linger=0)
    done = subprocess.run(
        [*session, "-n", str(workers)],
        env=inner,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = notes(tmp_path)
    assert {(worker, database) for worker, database, _, _ in seen} <= (
        {("gw0", "0"), ("gw1", "1")} if workers else {("alone", "0")}
    )
    assert len({(url, root) for _, _, url, root in seen}) == 1
    url = seen[0][2]
    with pytest.raises(redis.ConnectionError), redis.Redis.from_url(f"{url}/0") as client:
        client.ping()
    assert list(Path(inner["TMPDIR"]).glob(f"{stack.PREFIX}*")) == []
    assert elsewhere(inner["TMPDIR"]) == []


def test_a_killed_session_leaves_no_process_and_the_next_one_tidies_up(
    session: list[str], tmp_path: Path
) -> None:
    inner = environment(tmp_path, linger=600)
    killed = subprocess.Popen(session, env=inner, stdout=subprocess.DEVNULL)
    root = Path(notes(tmp_path)[0][3])
    everyone = family(killed.pid)
    assert len(everyone) > 6
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert eventually(lambda: not living(everyone))
    assert root.is_dir()
    subprocess.run(
        session, env={**inner, "LINGER": "0"}, check=True, timeout=120, stdout=subprocess.DEVNULL
    )
    assert not root.exists()
    assert elsewhere(inner["TMPDIR"]) == []


def test_this_very_session_has_its_services() -> None:
    assert stack.services.database_url == os.environ["STN_DATABASE_URL"]
    with psycopg.connect(stack.services.database_url) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("off",)
        assert connection.execute("SHOW max_connections").fetchone() == ("200",)
    with redis.Redis.from_url(stack.services.redis_url) as client:
        assert client.ping()
