"""An embedded Valkey: the doorbell and the pub/sub of a laptop, a demo, a test session.

It keeps nothing on disk: everything that matters is in PostgreSQL.
"""

import signal
import socket
from pathlib import Path
from typing import ClassVar

from station.embedded import files, wheels
from station.embedded.account import unprivileged
from station.embedded.ports import LOOPBACK
from station.embedded.process import Command
from station.embedded.service import EmbeddedService

PROBE_TIMEOUT = 1.0
DATABASES = 64

CONFIG = """\
bind {host}
port {port}
protected-mode yes
requirepass {password}
daemonize no
logfile ""
dir /
save ""
appendonly no
databases {databases}
maxmemory-policy noeviction
tcp-backlog 128
"""


class Valkey(EmbeddedService):
    """A Valkey server on 127.0.0.1 with a password, without persistence.

    The password lies in `<data_dir>/valkey.password`, mode 0600, and reaches the server on its
    standard input. As root, the server runs as `nobody`.
    """

    name: ClassVar[str] = "valkey"
    stop_signals: ClassVar[tuple[tuple[signal.Signals, float], ...]] = ((signal.SIGTERM, 10.0),)
    start_timeout: ClassVar[float] = 20.0

    def __init__(self, data_dir: Path, *, port: int | None = None) -> None:
        super().__init__(data_dir, port=port)
        self._password = ""

    @property
    def url(self) -> str:
        """`redis://:password@127.0.0.1:port/0`."""
        return self.database_url(0)

    def database_url(self, number: int) -> str:
        """The address of one of its 64 numbered databases."""
        return f"redis://:{self._password}@{LOOPBACK}:{self.port}/{number}"

    def _prepare(self) -> None:
        self._password, _ = files.stored_password(self.data_dir / "valkey.password")

    def _command(self, port: int) -> Command:
        config = CONFIG.format(
            host=LOOPBACK, port=port, password=self._password, databases=DATABASES
        )
        return Command(
            argv=[str(wheels.valkey_server()), "-"],
            env={"LC_ALL": "C", "TZ": "UTC"},
            cwd=Path("/"),
            account=unprivileged(),
            stdin=config.encode(),
        )

    def _is_ready(self, pid: int, port: int) -> bool:
        del pid  # only our server knows the password
        try:
            with socket.create_connection((LOOPBACK, port), timeout=PROBE_TIMEOUT) as probe:
                probe.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2:
                    chunk = probe.recv(256)
                    if not chunk:
                        return False
                    answer += chunk
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"
