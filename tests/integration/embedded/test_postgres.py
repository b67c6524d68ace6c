import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from station.embedded.errors import FolderInUse, PortTaken, ServiceFailed
from station.embedded.ports import free_port
from station.embedded.postgres import Postgres
from tests.integration.embedded.watching import eventually, family, living, written

FAST = {"fsync": "off", "max_connections": "20"}


@pytest.fixture
def postgres(service_folder: Path) -> Iterator[Postgres]:
    server = Postgres(service_folder, settings=FAST)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def value(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    return row and row[0]


def run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def test_data_survive_restarts_crashes_and_a_new_object_on_the_same_folder(
    postgres: Postgres,
) -> None:
    url, port = postgres.url, postgres.port
    run(url, "CREATE TABLE kept (n int)")
    run(url, "INSERT INTO kept VALUES (1)")
    postgres.restart()
    run(url, "INSERT INTO kept VALUES (2)")
    postgres.kill()
    postgres.start()
    assert (postgres.url, postgres.port) == (url, port)
    postgres.stop()
    with Postgres(postgres.data_dir, settings=FAST) as again:
        assert value(again.url, "SELECT count(*) FROM kept") == 2


def test_the_role_is_no_superuser_and_may_create_databases(postgres: Postgres) -> None:
    assert value(postgres.url, "SELECT current_user || '@' || current_database()") == (
        "station@station"
    )
    assert value(postgres.url, "SHOW is_superuser") == "off"
    run(postgres.url, "CREATE DATABASE another")
    assert value(postgres.superuser_url, "SHOW is_superuser") == "on"


@pytest.mark.parametrize("user", ["station", "postgres"])
@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_wrong_or_missing_password_is_refused(
    postgres: Postgres, user: str, password: str
) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(make_conninfo(postgres.url, user=user, password=password))


def test_every_line_of_its_access_rules_asks_for_scram(postgres: Postgres) -> None:
    methods = "SELECT array_agg(DISTINCT auth_method) FROM pg_hba_file_rules"
    assert value(postgres.superuser_url, methods) == ["scram-sha-256"]
    verifiers = "SELECT bool_and(rolpassword LIKE 'SCRAM-%') FROM pg_authid WHERE rolcanlogin"
    assert value(postgres.superuser_url, verifiers) is True


def test_it_listens_on_loopback_alone_and_has_no_unix_socket(postgres: Postgres) -> None:
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for connection in psutil.Process(postgres.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", postgres.port)}
    bound = [
        connection.laddr
        for process in family(postgres.pid)
        for connection in process.net_connections("unix")
    ]
    assert [path for path in bound if path] == []
    assert not list(Path(tempfile.gettempdir()).glob(f".s.PGSQL.{postgres.port}*"))


def test_the_password_is_in_a_private_file_and_in_no_command_line(postgres: Postgres) -> None:
    password = conninfo_to_dict(postgres.url)["password"]
    kept = postgres.data_dir / "postgres.password"
    assert kept.read_text().strip() == password
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    everyone = family(os.getpid())
    assert not [process for process in everyone if str(password) in " ".join(process.cmdline())]
    assert not list(postgres.data_dir.rglob("*.new*"))


def test_a_lost_password_file_is_made_anew(postgres: Postgres) -> None:
    former = postgres.url
    postgres.stop()
    (postgres.data_dir / "postgres.password").unlink()
    postgres.start()
    assert postgres.url != former
    assert value(postgres.url, "SELECT 1") == 1
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(former)


def test_settings_reach_the_server_and_defaults_are_safe(postgres: Postgres) -> None:
    assert value(postgres.url, "SHOW max_connections") == "20"
    postgres.stop()
    with Postgres(postgres.data_dir) as plain:
        assert value(plain.url, "SHOW fsync") == "on"
        assert value(plain.url, "SHOW server_encoding") == "UTF8"
        assert value(plain.url, "SHOW timezone") == "UTC"


def test_a_setting_it_does_not_know_ends_the_start_with_its_words(service_folder: Path) -> None:
    with pytest.raises(ServiceFailed, match="no_such_setting"):
        Postgres(service_folder, settings={**FAST, "no_such_setting": "1"}).start()


def test_a_taken_port_is_a_clear_error(service_folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"127.0.0.1:{port}"):
            Postgres(service_folder, port=port, settings=FAST).start()


def test_a_port_taken_between_choice_and_start_is_chosen_again(service_folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        free = free_port()
        choices = [other.getsockname()[1], free]

        class Unlucky(Postgres):
            def _choose_port(self) -> int:
                return int(choices.pop(0))

        with Unlucky(service_folder, settings=FAST) as server:
            assert server.port == free


class Impatient(Postgres):
    in_use_patience = 0.5


def test_a_second_server_on_the_same_folder_is_refused(postgres: Postgres) -> None:
    with pytest.raises(FolderInUse, match=str(postgres.data_dir)):
        Impatient(postgres.data_dir, settings=FAST).start()
    assert value(postgres.url, "SELECT 1") == 1


def test_starting_twice_keeps_the_one_that_runs(postgres: Postgres) -> None:
    pid = postgres.pid
    postgres.start()
    assert postgres.pid == pid


def test_a_stopped_server_has_no_pid(service_folder: Path) -> None:
    server = Postgres(service_folder)
    for attribute in ("pid", "port"):
        with pytest.raises(ServiceFailed, match="start"):
            getattr(server, attribute)


def test_nothing_lives_on_after_its_parent_was_killed(service_folder: Path) -> None:
    note = service_folder / "note"
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from station.embedded.postgres import Postgres\n"
        "server = Postgres(Path(sys.argv[1]), settings={'fsync': 'off'})\n"
        "server.start()\n"
        "Path(sys.argv[2]).write_text(server.url + '\\n')\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(service_folder), str(note)])
    with psycopg.connect(written(note).strip()):  # a client that does not let go
        everyone = family(parent.pid)
        assert len(everyone) > 4
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert eventually(lambda: not living(everyone))
    with Postgres(service_folder, settings=FAST) as again:
        assert value(again.url, "SELECT 1") == 1


def test_two_processes_may_make_the_same_cluster_at_once(service_folder: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from station.embedded.postgres import Postgres\n"
        "with Postgres(Path(sys.argv[1]), settings={'fsync': 'off'}) as server:\n"
        "    print(server.url.rpartition('@')[0])\n"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(service_folder)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    first, second = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert first == second != ""
