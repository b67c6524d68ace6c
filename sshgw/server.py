"""The SSH gateway: operator commands for people with a key, a process of its own.

One thread accepts and sweeps; each connection has paramiko's thread, each running command one
more. All of them are bounded, and a stranger may keep a place for the login grace only.
"""

import contextlib
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import paramiko
import structlog

from sshgw import session
from sshgw.door import Door, Order, Transport
from sshgw.errors import CannotListen
from sshgw.hostkey import host_key
from sshgw.identity import Identities
from sshgw.metrics import CONNECTIONS
from station.accounts.keys import fingerprint
from station.commands import Exit
from station.config import Config
from station.observe.metrics import ERRORS

LOGIN_GRACE = 30.0
MOST_CONNECTIONS = 200
MOST_STRANGERS = 30
"""Connections that have not logged in yet; of one address, a third of them."""
MOST_COMMANDS = 64
DRAIN = 10.0
_INTERRUPT_AFTER = 7.0
_TICK = 0.25
_DEAD_PEER_MS = 90_000
_ENDING_SIGNALS = frozenset({"INT", "TERM", "HUP", "QUIT", "KILL"})
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """An accepted connection."""

    transport: Transport
    door: Door
    sock: socket.socket
    address: str
    since: float

    @property
    def alive(self) -> bool:
        return self.transport.is_alive()

    @property
    def stranger(self) -> bool:
        return self.door.proven is None

    def cut(self) -> None:
        """End it without waiting: its thread sees the end of the stream and cleans up."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class Gateway:
    """Serves SSH on a listening socket, which it owns from then on."""

    def __init__(
        self,
        listener: socket.socket,
        key: paramiko.PKey,
        identities: Identities,
        run_command: session.RunCommand,
        *,
        login_grace: float = LOGIN_GRACE,
        most_commands: int = MOST_COMMANDS,
    ) -> None:
        """Hold strangers for ``login_grace`` seconds, run at most ``most_commands`` at once."""
        self._listener = listener
        self._key = key
        self._identities = identities
        self._run_command = run_command
        self._login_grace = login_grace
        self._most_commands = most_commands
        self._connections: list[Connection] = []
        self._commands: dict[paramiko.Channel, session.Command] = {}
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._stopping = False

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def serve(self, stop: threading.Event) -> None:
        """Accept until ``stop``; then let commands finish within 10 s, and return."""
        # Every stranger's broken handshake would be an error with a traceback otherwise.
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)
        self._listener.settimeout(_TICK)
        CONNECTIONS.set(0)
        try:
            swept = time.monotonic()
            while not stop.is_set():
                self._accept(stop)
                if time.monotonic() - swept >= _TICK:
                    swept = time.monotonic()
                    self._sweep()
        finally:
            self._listener.close()
            self._drain()
            CONNECTIONS.set(0)

    # --- connections ------------------------------------------------------------------------

    def _accept(self, stop: threading.Event) -> None:
        try:
            sock, peer = self._listener.accept()
        except TimeoutError:
            return
        except OSError as error:  # out of descriptors, or the client left already
            _log.warning("ssh_accept_failed", problem=str(error))
            stop.wait(0.2)
            return
        address = str(peer[0]).removeprefix("::ffff:")
        if not self._has_room(address):
            _log.warning("ssh_connection_refused", address=address, problem="too many connections")
            sock.close()
            return
        try:
            self._admit(sock, address)
        except Exception as error:  # noqa: BLE001 - one client must not end the gateway
            ERRORS.labels("ssh").inc()
            _log.error("ssh_connection_errored", address=address, problem=str(error))
            sock.close()

    def _has_room(self, address: str) -> bool:
        self._forget_ended()
        strangers = Counter(c.address for c in self._connections if c.stranger)
        return (
            len(self._connections) < MOST_CONNECTIONS
            and strangers.total() < MOST_STRANGERS
            and strangers[address] < MOST_STRANGERS // 3
        )

    def _admit(self, sock: socket.socket, address: str) -> None:
        for level, option, value in (
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
            # The kernel ends a connection whose peer acknowledges nothing for so long.
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_PEER_MS),
        ):
            sock.setsockopt(level, option, value)
        transport = Transport(sock)
        transport.add_server_key(self._key)
        own = sock.getsockname()
        door = Door(
            transport,
            address=address,
            reached_at=(own[0], own[1]),
            identities=self._identities,
            take=self._take,
            signalled=self._signalled,
        )
        self._connections.append(
            Connection(
                transport=transport, door=door, sock=sock, address=address, since=time.monotonic()
            )
        )
        CONNECTIONS.set(len(self._connections))
        # With an event it returns at once instead of waiting for the handshake.
        transport.start_server(event=threading.Event(), server=door)

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in self._connections:
            if connection.stranger and now - connection.since > self._login_grace:
                _log.info("ssh_login_grace_over", address=connection.address)
                connection.cut()
        self._forget_ended()

    def _forget_ended(self) -> None:
        ended = [c for c in self._connections if not c.alive]
        for connection in ended:
            problem = connection.transport.get_exception()
            if isinstance(problem, paramiko.SSHException):
                _log.info("ssh_broken_off", address=connection.address, problem=str(problem))
        if ended:
            self._connections = [c for c in self._connections if c not in ended]
            CONNECTIONS.set(len(self._connections))

    # --- commands ---------------------------------------------------------------------------

    def _take(self, order: Order) -> None:
        command = session.Command(
            order=order, identities=self._identities, run_command=self._run_command
        )
        with self._lock:
            if self._stopping:
                refusal = "Station's SSH gateway is stopping. Try again in a moment."
            elif len(self._commands) >= self._most_commands:
                refusal = "Station's SSH gateway runs too many commands now. Try again later."
            else:
                refusal = ""
                self._commands[order.channel] = command
        if refusal:
            session.say(order, refusal)
            session.end(order.channel, Exit.FAILED)
            return
        threading.Thread(
            target=self._carry, args=(command,), name="station-ssh-command", daemon=True
        ).start()

    def _carry(self, command: session.Command) -> None:
        try:
            command.carry()
        finally:
            with self._idle:
                self._commands.pop(command.order.channel, None)
                self._idle.notify_all()

    def _signalled(self, channel: paramiko.Channel, name: str) -> None:
        with self._lock:
            command = self._commands.get(channel)
        if command is not None and name in _ENDING_SIGNALS:
            command.interrupted.set()

    # --- stopping ---------------------------------------------------------------------------

    def _drain(self) -> None:
        started = time.monotonic()
        with self._idle:
            self._stopping = True
            self._idle.wait_for(lambda: not self._commands, _INTERRUPT_AFTER)
            for command in self._commands.values():
                command.interrupted.set()
            self._idle.wait_for(lambda: not self._commands, DRAIN - (time.monotonic() - started))
            left = len(self._commands)
        if left:
            _log.warning("ssh_commands_cut_off", commands=left)
        for connection in self._connections:
            connection.cut()
        for connection in self._connections:
            connection.transport.join(1.0)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises :class:`CannotListen`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise CannotListen(
            f"The SSH gateway cannot listen on {host} port {port}: {error.strerror}.",
            fix="Stop what uses the port, or set ssh.port (STN_SSH_PORT).",
        ) from None


def serve(
    config: Config,
    stop: threading.Event,
    *,
    run_command: session.RunCommand | None = None,
    listening: Callable[[int], None] | None = None,
) -> None:
    """Run the gateway until ``stop`` is set. Django must be set up.

    Args:
        run_command: runs one operator command; by default the registry of commands.
        listening: called with the port once connections are accepted.

    Raises:
        HostKeyUnusable, CannotListen: it cannot start.
    """
    key = host_key(config)
    gateway = Gateway(
        listen(config.ssh.host, config.ssh.port),
        key,
        Identities(config.ssh.authorized_keys_path),
        run_command or _registered(),
    )
    _log.info(
        "ssh_listening",
        host=config.ssh.host,
        port=gateway.port,
        host_key=fingerprint(key.asbytes()),
    )
    if listening is not None:
        listening(gateway.port)
    gateway.serve(stop)
    _log.info("ssh_stopped")


def _registered() -> session.RunCommand:
    from station.commands.registry import discovered  # noqa: PLC0415 - imports every app's

    return discovered().invoke
