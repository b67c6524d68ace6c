import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from station.embedded.valkey import Valkey
from tests.integration.embedded.watching import eventually, family, living, written


@pytest.fixture
def valkey(service_folder: Path) -> Iterator[Valkey]:
    with Valkey(service_folder) as server:
        yield server


def ask(url: str, *command: str | int) -> object:
    with redis.Redis.from_url(url) as client:
        return client.execute_command(*command)


def test_it_answers_and_forgets_at_restart_on_the_same_port(valkey: Valkey) -> None:
    url = valkey.url
    ask(url, "SET", "key", "value")
    assert ask(url, "GET", "key") == b"value"
    valkey.restart()
    assert valkey.url == url
    assert ask(url, "GET", "key") is None
    valkey.kill()
    valkey.start()
    assert ask(url, "PING") is True


def test_it_asks_for_the_password(valkey: Valkey) -> None:
    with pytest.raises(redis.AuthenticationError):
        ask(f"redis://127.0.0.1:{valkey.port}/0", "PING")
    with pytest.raises(redis.AuthenticationError):
        ask(f"redis://:wrong@127.0.0.1:{valkey.port}/0", "PING")


def test_the_password_is_in_a_private_file_and_in_no_command_line(valkey: Valkey) -> None:
    kept = valkey.data_dir / "valkey.password"
    password = kept.read_text().strip()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert password in valkey.url
    everyone = family(os.getpid())
    assert not [process for process in everyone if password in " ".join(process.cmdline())]


def test_it_listens_on_loopback_alone(valkey: Valkey) -> None:
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for connection in psutil.Process(valkey.pid).net_connections("all")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", valkey.port)}


def test_numbered_databases_are_apart(valkey: Valkey) -> None:
    ask(valkey.database_url(3), "SET", "key", "three")
    assert ask(valkey.database_url(63), "GET", "key") is None
    assert ask(valkey.database_url(3), "GET", "key") == b"three"


def test_nothing_lives_on_after_its_parent_was_killed(service_folder: Path) -> None:
    note = service_folder / "note"
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from station.embedded.valkey import Valkey\n"
        "server = Valkey(Path(sys.argv[1]))\n"
        "server.start()\n"
        "Path(sys.argv[2]).write_text('up\\n')\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(service_folder), str(note)])
    written(note)
    everyone = family(parent.pid)
    assert len(everyone) == 3
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert eventually(lambda: not living(everyone))
