"""One connection's answers: who gets in, what a channel may be asked for.

paramiko calls these methods in the connection's own thread, one at a time. Nothing here waits for
long: commands run in threads of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import paramiko
import structlog
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    MSG_CHANNEL_REQUEST,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_SUCCEEDED,
)
from paramiko.packet import Packetizer

from sshgw import algorithms
from sshgw.identity import Identities, Offer
from station.accounts.keys import fingerprint
from station.observe.metrics import ERRORS

VERSION = "SSH-2.0-Station"
MOST_CHANNELS = 10
MOST_TRIES = 6
"""Refused keys after which the client is sent away, as sshd does."""
_PARAMIKO_MOST_TRIES = 10
_KEEPALIVE = 30
_WIDTHS = range(20, 501)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """The client's terminal. ``width`` is in columns."""

    kind: str
    width: int


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a client asked for on a channel: a command, or a shell (``command`` is ``None``)."""

    channel: paramiko.Channel
    proven: Offer
    reached_at: tuple[str, int]
    """The gateway's own address and port, as this client sees them."""
    command: str | None
    terminal: Terminal | None


class _NoTimers(Packetizer):
    def start_handshake(self, timeout: float) -> None:
        """The gateway's login grace bounds the handshake; a timer thread would outlive a stop."""


class Door(paramiko.ServerInterface):
    """Lets in by public key only, and takes commands, a few channels at a time."""

    def __init__(
        self,
        transport: paramiko.Transport,
        *,
        address: str,
        reached_at: tuple[str, int],
        identities: Identities,
        take: Callable[[Order], None],
        signalled: Callable[[paramiko.Channel, str], None],
    ) -> None:
        """``take`` starts an order, ``signalled`` hears of signals sent to one; both at once."""
        self._transport = transport
        self._address = address
        self._reached_at = reached_at
        self._identities = identities
        self._take = take
        self._signalled = signalled
        self._offer: Offer | None = None
        self._refused = 0
        self._channels: dict[int, paramiko.Channel] = {}
        self._terminals: dict[int, Terminal] = {}
        self._ordered: set[int] = set()
        self._accepted: Order | None = None

    @property
    def proven(self) -> Offer | None:
        """The key whose signature was verified: the last one offered before the log-in."""
        return self._offer if self._transport.is_authenticated() else None

    # --- logging in -------------------------------------------------------------------------

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        """Called for offers without a signature too, so that nothing may be concluded yet."""
        offer = Offer(
            username=username, fingerprint=fingerprint(key.asbytes()), address=self._address
        )
        certificate = getattr(key, "public_blob", None) is not None
        if not certificate and self._accepts(offer):
            self._offer = offer
            return AUTH_SUCCESSFUL
        self._offer = None
        self._refused += 1
        if self._refused >= MOST_TRIES and self._transport.auth_handler is not None:
            # Makes paramiko say so and hang up; its own limit is higher and fixed.
            self._transport.auth_handler.auth_fail_count = _PARAMIKO_MOST_TRIES
        _log.info(
            "ssh_key_refused",
            username=username[:100],
            fingerprint=offer.fingerprint,
            address=self._address,
        )
        return AUTH_FAILED

    def _accepts(self, offer: Offer) -> bool:
        try:
            return self._identities.accepts(offer)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody gets in
            ERRORS.labels("ssh").inc()
            _log.error("ssh_login_errored", problem=f"{type(error).__name__}: {error}".strip())
            return False

    # --- channels ---------------------------------------------------------------------------

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if kind != "session" or self.proven is None:
            return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        self._keep_channels()
        if len(self._channels) >= MOST_CHANNELS:
            return OPEN_FAILED_RESOURCE_SHORTAGE
        self._transport.set_keepalive(_KEEPALIVE)
        return OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        return False

    def check_channel_pty_request(  # noqa: PLR0917 - paramiko's
        self,
        channel: paramiko.Channel,
        term: bytes,
        width: int,
        height: int,
        pixelwidth: int,
        pixelheight: int,
        modes: bytes,
    ) -> bool:
        columns = min(max(width, _WIDTHS.start), _WIDTHS.stop - 1) if width else 80
        self._terminals[channel.get_id()] = Terminal(
            kind=term.decode("ascii", "replace"), width=columns
        )
        return True

    def check_channel_window_change_request(
        self, channel: paramiko.Channel, width: int, height: int, pixelwidth: int, pixelheight: int
    ) -> bool:
        return True

    def check_channel_shell_request(self, channel: paramiko.Channel) -> bool:
        return self._order(channel, None)

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        return self._order(channel, command.decode("utf-8", "replace"))

    def _order(self, channel: paramiko.Channel, command: str | None) -> bool:
        number, proven = channel.get_id(), self.proven
        if proven is None or number in self._ordered:
            return False
        self._ordered.add(number)
        self._accepted = Order(
            channel=channel,
            proven=proven,
            reached_at=self._reached_at,
            command=command,
            terminal=self._terminals.get(number),
        )
        return True

    def answered(self) -> None:
        """The reply to a request is on its way: start what was accepted with it."""
        order, self._accepted = self._accepted, None
        if order is not None:
            self._keep_channels()
            self._take(order)

    def signalled(self, channel: paramiko.Channel, name: str) -> None:
        """The client sent its command a signal, like ``INT``."""
        self._signalled(channel, name)

    def _keep_channels(self) -> None:
        """Hold the open channels (paramiko does so weakly), forget closed ones."""
        while (channel := self._transport.accept(0)) is not None:
            self._channels[channel.get_id()] = channel
        for number, channel in list(self._channels.items()):
            if channel.closed:
                del self._channels[number]
                self._terminals.pop(number, None)
                self._ordered.discard(number)


def _answer_request(channel: paramiko.Channel, message: paramiko.Message) -> None:
    transport = channel.get_transport()
    assert transport is not None
    door = transport.server_object
    assert isinstance(door, Door)
    asked = paramiko.Message(message.get_remainder())
    if asked.get_text() == "signal":
        asked.get_boolean()
        door.signalled(channel, asked.get_text())
    channel._handle_request(message)  # type: ignore[attr-defined]
    door.answered()


class Transport(paramiko.Transport):
    """A transport that tells its door when a request was answered.

    paramiko calls the door *before* it answers. A command that is quick would end its channel
    ahead of the answer to the request for it, which some clients take for a failure.
    """

    _channel_handler_table = {
        **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]
        MSG_CHANNEL_REQUEST: _answer_request,
    }

    def __init__(self, sock: "paramiko.transport._SocketLike") -> None:
        super().__init__(sock, packetizer_class=_NoTimers)
        self.local_version = VERSION
        algorithms.restrict(self)
