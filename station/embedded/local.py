"""A whole Station in one folder: embedded services, configuration, first set-up, processes."""

import fcntl
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from station.core.errors import StationError
from station.embedded import files
from station.embedded.child import ChildSpec
from station.embedded.ports import LOOPBACK, free_port
from station.embedded.postgres import Postgres
from station.embedded.probes import http_ready, tcp_ready
from station.embedded.valkey import Valkey

DEMO_TOOLS = "station-demo-tools"
ROLES = ("web", "worker", "keeper", "ssh", "mcp")
_PORTS = {"web": 8080, "ssh": 2222, "mcp": 3000}
_SETUP_PATIENCE = 120


class StationFolderInUse(StationError):
    """Another Station runs in this folder."""

    code = "folder_in_use"


class SetupFailed(StationError):
    """The database could not be set up."""

    code = "setup_failed"


@dataclass(frozen=True, kw_only=True)
class FirstSteps:
    """What the set-up made or found. ``password`` is only there when the user was made now."""

    username: str
    password: str | None
    api_key: str | None
    demo_agent: str | None


class LocalStation:
    """Everything Station needs on a laptop, in ``folder``; use it as a context manager.

    Nothing listens beyond 127.0.0.1, and nothing outlives this process.
    """

    def __init__(self, folder: Path, *, fixed_ports: bool, say: Callable[[str], None]) -> None:
        """Describe it.

        Args:
            folder: holds the data, the generated keys and the logs; made if missing.
            fixed_ports: prefer 8080, 2222 and 3000 where they are free; else take any.
            say: gets one line for each thing that takes time.
        """
        self._folder, self._say = folder.resolve(), say
        self._lock: int | None = None
        self.postgres = Postgres(self._folder)
        self.valkey = Valkey(self._folder)
        self.ports = {role: _port(port, fixed_ports) for role, port in _PORTS.items()}
        self.model_port = free_port()
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        files.make_folder(self._folder)
        self._take_lock()
        try:
            self._say("starting PostgreSQL and Valkey")
            self.postgres.start()
            self.valkey.start()
            self.environment = self._configure()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        (self._folder / "environment").unlink(missing_ok=True)
        self.valkey.stop()
        self.postgres.stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def url(self) -> str:
        """Where the web admin and the REST API are."""
        return f"http://{LOOPBACK}:{self.ports['web']}"

    @property
    def logs(self) -> Path:
        """Where the processes' logs go."""
        return self._folder / "logs"

    @property
    def scripted(self) -> bool:
        """Whether the model is a script, because no AI is configured."""
        return "STN_AI_API_KEY" not in os.environ and "STN_AI_API_KEY_FILE" not in os.environ

    def set_up(self, *, key_name: str, expires: str = "") -> FirstSteps:
        """Migrate, and make what is missing of: admin user, API key, demo agent.

        A key of that name is made unless one exists; with ``expires`` (a duration) always.
        """
        self._say("migrating the database and setting up what is missing")
        options = {"key_name": key_name, "expires": expires, "demo_tools": str(_demo_tools() or "")}
        finished = subprocess.run(
            [sys.executable, "-m", "station.embedded.bootstrap"],
            input=json.dumps(options),
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=_SETUP_PATIENCE,
            check=False,
        )
        if finished.returncode:
            last = finished.stderr.strip().splitlines()[-1:]
            raise SetupFailed(f"The database could not be set up: {' '.join(last)}")
        return FirstSteps(**json.loads(finished.stdout))

    def children(self, roles: Sequence[str] = ROLES) -> list[ChildSpec]:
        """The processes to supervise, in starting order."""
        model = [self._scripted_model()] if self.scripted else []
        return model + station_children(roles, self.ports, env=self.environment)

    def _take_lock(self) -> None:
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = None
            raise StationFolderInUse(
                f"Another Station runs in {self._folder}.",
                fix="Stop it, or choose another folder with --data-dir.",
            ) from None

    def _configure(self) -> dict[str, str]:
        """The variables every process of this Station gets; also written for the CLI to find."""
        key = self._folder / "encryption.key"
        if not key.exists():
            files.write_private(key, secrets.token_hex(32) + "\n")
        given = {
            "STN_DATABASE_URL": self.postgres.url,
            "STN_REDIS_URL": self.valkey.url,
            "STN_ENCRYPTION_KEY_FILE": str(key),
            "STN_DATA_DIR": str(self._folder),
            "STN_API_PORT": str(self.ports["web"]),
            "STN_SSH_PORT": str(self.ports["ssh"]),
            "STN_MCP_PORT": str(self.ports["mcp"]),
        }
        if self.scripted:
            given |= {
                "STN_AI_PROVIDER": "openai",
                "STN_AI_MODEL": "scripted-demo",
                "STN_AI_BASE_URL": f"http://{LOOPBACK}:{self.model_port}/v1",
                "STN_AI_API_KEY": "no-key-needed",
            }
        if "STN_CONFIG" not in os.environ:
            config = self._folder / "config.yaml"
            files.write_private(config, yaml.safe_dump(_LOCAL | _allow_demo_tools()))
            given["STN_CONFIG"] = str(config)
        lines = "".join(f"{name}={value}\n" for name, value in given.items())
        files.write_private(self._folder / "environment", lines)
        return given

    def _scripted_model(self) -> ChildSpec:
        return ChildSpec(
            name="model",
            argv=[sys.executable, "-m", "runs.scripted", "--port", str(self.model_port)],
            ready=tcp_ready(LOOPBACK, self.model_port),
            stop_timeout=5,
        )


_LOCAL: dict[str, Any] = {
    "api": {"host": LOOPBACK, "drain_delay": "0s"},
    "ssh": {"host": LOOPBACK},
    "mcp": {"host": LOOPBACK},
}


def station_children(
    roles: Sequence[str],
    ports: Mapping[str, int],
    *,
    env: Mapping[str, str] | None = None,
    tls: bool = False,
) -> list[ChildSpec]:
    """Station's own processes as children of a supervisor, in starting order."""
    web = tcp_ready if tls else lambda host, port: http_ready(f"http://{host}:{port}/health")
    probes = {"web": web, "ssh": tcp_ready, "mcp": tcp_ready}
    commands = {"mcp": ["mcp", "serve"]}
    return [
        ChildSpec(
            name=role,
            argv=[sys.executable, "-m", "station.cli.main", *commands.get(role, [role])],
            env=env,
            ready=probes[role](LOOPBACK, ports[role]) if role in probes else None,
            stop_timeout=28,
        )
        for role in ("worker", "keeper", "web", "ssh", "mcp")
        if role in roles
    ]


def _port(preferred: int, fixed: bool) -> int:
    if fixed and not tcp_ready(LOOPBACK, preferred)():
        return preferred
    return free_port()


def _demo_tools() -> Path | None:
    """The demo's tool server, installed beside this interpreter."""
    path = Path(sys.executable).with_name(DEMO_TOOLS)
    return path if path.exists() else None


def _allow_demo_tools() -> dict[str, Any]:
    path = _demo_tools()
    mcp = {**_LOCAL["mcp"], **({"stdio_commands": [str(path)]} if path else {})}
    return {"mcp": mcp}
