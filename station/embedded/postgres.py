"""An embedded PostgreSQL 18: the database of a laptop, a demo, a test session."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from station.embedded import files
from station.embedded.errors import ServiceFailed
from station.embedded.ports import LOOPBACK
from station.embedded.process import Command
from station.embedded.service import EmbeddedService
from station.embedded.site import Site, find_site, is_recorded

ROLE = DATABASE = "station"
SUPERUSER = "postgres"
SETUP_TIMEOUT = 120
# No PG* variable, locale or time zone of this process reaches the server.
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"}


class Postgres(EmbeddedService):
    """A PostgreSQL server on 127.0.0.1: scram-sha-256 only, no Unix socket.

    The first start makes the cluster in `<data_dir>/postgres` (or, for root, where
    `station.embedded.site` says), with the role and database `station`. The role may create
    databases and is no superuser. Its password lies in `<data_dir>/postgres.password`, mode 0600.
    """

    name: ClassVar[str] = "postgres"
    stop_signals: ClassVar[tuple[tuple[signal.Signals, float], ...]] = (
        (signal.SIGINT, 30.0),  # "fast": disconnect everybody, write a checkpoint
        (signal.SIGQUIT, 10.0),  # "immediate": recover from the log at the next start
    )
    in_use_texts: ClassVar[tuple[str, ...]] = (
        'lock file "postmaster.pid" already exists',
        'lock file "postmaster.pid" is empty',
        "pre-existing shared memory block",
    )

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Describe the server; nothing is touched before `start()`.

        Args:
            data_dir: see the class; made if missing.
            port: the port to listen on; None takes a free one at the first start.
            settings: PostgreSQL settings on top of the defaults, `{"max_connections": "200"}`.
        """
        super().__init__(data_dir, port=port)
        self._settings = dict(settings or {})
        self._password = ""
        self._site: Site | None = None

    @property
    def url(self) -> str:
        """`postgresql://station:password@127.0.0.1:port/station`."""
        return f"postgresql://{ROLE}:{self._password}@{LOOPBACK}:{self.port}/{DATABASE}"

    @property
    def superuser_url(self) -> str:
        """The same server as its superuser `postgres`; for tests and repairs, not for Station."""
        return f"postgresql://{SUPERUSER}:{self._password}@{LOOPBACK}:{self.port}/{SUPERUSER}"

    def remove(self) -> None:
        """Stop the server and delete its data, wherever it lies, for good."""
        self.stop()
        if is_recorded(self.data_dir):
            find_site(self.data_dir).remove()
        self._site = None
        for path in (self.data_dir / "postgres.password", self.log):
            path.unlink(missing_ok=True)

    def _prepare(self) -> None:
        with files.locked(self.data_dir / "postgres.lock"):
            self._site = site = find_site(self.data_dir)
            self._password, is_new = files.stored_password(self.data_dir / "postgres.password")
            if not site.exists:
                try:
                    self._make_cluster(site)
                except BaseException:
                    site.abandon()
                    raise
            elif is_new:  # somebody deleted the password file
                for role in (ROLE, SUPERUSER):
                    self._execute(
                        site, site.cluster, [f"ALTER ROLE {role} PASSWORD '{self._password}'"]
                    )

    def _make_cluster(self, site: Site) -> None:
        shutil.rmtree(site.draft, ignore_errors=True)
        site.draft.mkdir(mode=0o700)
        password_file = site.place / f"{site.draft.name}.password"
        password_file.unlink(missing_ok=True)
        files.write_private(password_file, self._password + "\n")
        if site.account:
            for path in (site.draft, password_file):
                os.chown(path, site.account.uid, site.account.gid)
        try:
            self._run(
                site,
                "initdb",
                f"--pgdata={site.draft}",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--locale=C",
                "--no-instructions",
                *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
            )
        finally:
            password_file.unlink()
        self._execute(
            site,
            site.draft,
            [
                f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{self._password}'",
                f"CREATE DATABASE {DATABASE} OWNER {ROLE}",
            ],
        )
        site.draft.rename(site.cluster)
        site.link()

    def _execute(self, site: Site, cluster: Path, statements: list[str]) -> None:
        """Run statements in single-user mode: no port, no password needed, nothing in argv."""
        arguments = ["--single", "-D", str(cluster), "-c", "exit_on_error=true"]
        if self._settings.get("fsync") == "off":
            arguments += ["-F"]
        self._run(site, "postgres", *arguments, SUPERUSER, text="\n".join(statements) + "\n")

    def _run(self, site: Site, program: str, *arguments: str, text: str = "") -> None:
        account = site.account
        done = subprocess.run(
            [str(site.bin / program), *arguments],
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=ENVIRONMENT,
            cwd="/",
            timeout=SETUP_TIMEOUT,
            check=False,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            umask=0o077,
        )
        if done.returncode != 0:
            raise ServiceFailed(
                f"{program} for {site.cluster} ended with status {done.returncode}.\n"
                f"{done.stdout.strip()[-2000:]}"
            )

    def _command(self, port: int) -> Command:
        assert self._site is not None
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(port),
            "unix_socket_directories": "",
            **self._settings,
        }
        return Command(
            argv=[
                str(self._site.bin / "postgres"),
                "-D",
                str(self._site.cluster),
                *(part for item in settings.items() for part in ("-c", "=".join(item))),
            ],
            env=ENVIRONMENT,
            cwd=Path("/"),
            account=self._site.account,
            orphan_signal=signal.SIGQUIT,
            orphan_grace=6.0,  # the postmaster itself kills its children after 5
        )

    def _is_ready(self, pid: int, port: int) -> bool:
        """As pg_ctl does: the lock file names our process and says "ready" in its eighth line."""
        del port
        assert self._site is not None
        try:
            lines = (self._site.cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"
